"""Channels between groups and workers that are only said to exist."""

from typing import Any, cast

from backend.wire.control import Attach, ToChild
from backend.wire.local.channel import ChannelFds
from gateway.events import GroupReady, WorkerCut
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

    def __init__(self) -> None:
        self.channels: dict[int, int] = {}
        self.quiet: set[int] = set()
        self.attached: list[tuple[int, int]] = []

    @property
    def incarnation(self) -> Any:
        return self

    replica = incarnation

    def attach(self, worker: int, epoch: int, channel: ChannelFds) -> None:
        self.attached.append((worker, epoch))


def test_cut_channel_is_replaced_and_old_news_of_it_is_ignored() -> None:
    group, worker = FakeGroup(), FakeWorker()
    epochs = iter(range(5, 100))
    manager = ChannelManager(
        {0: cast(Group, group)}, [cast(Worker, worker)], next_epoch=lambda: next(epochs)
    )
    manager.take(GroupReady(0))
    manager.take(WorkerCut(0, 0, 5))
    assert group.attached == [(0, 5), (0, 6)]
    assert worker.told == [Attach(0, 0, 5), Attach(0, 0, 6)]
    assert worker.serves == set(), "until it has read the group's Ready again"
    manager.take(WorkerCut(0, 0, 5))
    manager.take(WorkerCut(0, 7, 5))
    assert group.channels == {0: 6}
