"""Channels between groups and workers that are only said to exist."""

from types import SimpleNamespace
from typing import Any, cast

from backend.wire.control import Attach, NameGroups, ToChild
from backend.wire.offer import Offer
from gateway.events import GroupForgotten, GroupReady, WorkerCut, WorkerStarted
from gateway.supervision.channels import ChannelManager
from gateway.supervision.groups import Group, GroupState
from gateway.supervision.workers import Worker


class FakeWorker:
    number = 0
    child = object()

    def __init__(self) -> None:
        self.serves = {0}
        self.told: list[ToChild] = []

    def tell(self, message: ToChild, fds: tuple[int, ...] = ()) -> None:
        self.told.append(message)


class FakeGroup:
    number = 0
    state = GroupState.READY

    def __init__(self, name: str = "primary") -> None:
        self.place = SimpleNamespace(name=name)
        self.channels: dict[int, int] = {}
        self.quiet: set[int] = set()
        self.connected: list[tuple[int, int]] = []

    @property
    def incarnation(self) -> Any:
        return self

    replica = incarnation

    def connect(self, worker: int, epoch: int) -> Offer:
        self.connected.append((worker, epoch))
        return Offer(Attach(worker, self.number, epoch))


def test_cut_channel_is_replaced_and_old_news_of_it_is_ignored() -> None:
    group, worker = FakeGroup(), FakeWorker()
    epochs = iter(range(5, 100))
    manager = ChannelManager(
        {0: cast(Group, group)}, [cast(Worker, worker)], next_epoch=lambda: next(epochs)
    )
    manager.take(GroupReady(0))
    manager.take(WorkerCut(0, 0, 5))
    assert group.connected == [(0, 5), (0, 6)]
    assert worker.told == [Attach(0, 0, 5), Attach(0, 0, 6)]
    assert worker.serves == set(), "until it has read the group's Ready again"
    manager.take(WorkerCut(0, 0, 5))
    manager.take(WorkerCut(0, 7, 5))
    assert group.channels == {0: 6}


def test_worker_is_told_what_groups_are_called() -> None:
    groups, worker = {0: FakeGroup(), 1: FakeGroup("batch")}, FakeWorker()
    epochs = iter(range(5, 100))
    manager = ChannelManager(
        cast(dict[int, Group], groups), [cast(Worker, worker)], next_epoch=lambda: next(epochs)
    )
    manager.take(WorkerStarted(0, cast(Any, None)))
    assert worker.told[0] == NameGroups({0: "primary", 1: "batch"})
    assert worker.told[1:] == [Attach(0, 0, 5), Attach(0, 0, 6)]
    del groups[1]
    manager.take(GroupForgotten(1))
    assert worker.told[-1] == NameGroups({0: "primary"})
