"""What the supervisor tells of births and deaths, read from its page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import msgspec
import pytest

from backend.wire.control import ChildLine, Observe, SupervisorLine, create_control
from backend.wire.local.child import Child
from gateway.events import (
    GroupChanged,
    GroupForgotten,
    GroupLost,
    GroupStarted,
    WorkerLost,
    WorkerStarted,
)
from gateway.telemetry.figures import Process, Refused, SupervisorFigures
from gateway.telemetry.page import Page
from gateway.telemetry.publisher import Publisher


@dataclass
class FakeChild:
    title: str
    pid: int
    line: SupervisorLine | None = None


def child(title: str, pid: int, line: SupervisorLine | None = None) -> Child:
    return cast(Child, FakeChild(title, pid, line))


@dataclass
class World:
    """A publisher for two workers, and what worker 1 has been told: where its page is."""

    publisher: Publisher
    line: SupervisorLine
    page: Page

    def told(self) -> SupervisorFigures:
        record = self.page.read()
        assert record is not None
        return msgspec.msgpack.decode(record, type=SupervisorFigures)


@pytest.fixture
def world() -> Iterator[World]:
    publisher = Publisher(2)
    ours, theirs = create_control()
    with ours, theirs:
        line = SupervisorLine(ours)
        publisher.take(WorkerStarted(1, child("worker 1", 7, line)))
        packet = ChildLine(theirs).receive()
        assert packet is not None
        message, fds = packet
        assert message == Observe(1) and len(fds) == 3
        yield World(publisher, line, Page(fds[0]))


def test_births_and_deaths_are_told_to_every_worker(world: World) -> None:
    world.publisher.take(GroupStarted(0, [child("rank 0.0", 8), child("rank 0.1", 9)]))
    assert world.told().processes[1:] == [
        Process("worker 1", 7),
        Process("rank 0.0", 8, "0", "0"),
        Process("rank 0.1", 9, "0", "1"),
    ]
    world.publisher.take(GroupLost(0, []))
    assert [process.title for process in world.told().processes] == ["supervisor", "worker 1"]


def test_restarts_are_counted_until_a_group_is_forgotten(world: World) -> None:
    publisher = world.publisher
    publisher.take(GroupStarted(0, [child("rank 0.0", 8)]))
    publisher.take(GroupLost(0, []))
    publisher.take(GroupStarted(0, [child("rank 0.0", 10)]))
    publisher.take(WorkerLost(1))
    publisher.take(WorkerStarted(1, child("worker 1", 11, world.line)))
    assert (world.told().group_restarts, world.told().worker_restarts) == ({0: 1}, {1: 1})
    publisher.take(GroupForgotten(0))
    assert world.told().group_restarts == {}


def test_states_of_groups_are_told(world: World) -> None:
    world.publisher.take(GroupChanged(0, "loading"))
    assert world.told().group_states == {0: "loading"}
    assert world.told().group_nodes == {}
    world.publisher.take(GroupChanged(0, "loading", "n1 (10.0.0.1)"))
    assert world.told().group_nodes == {0: "n1 (10.0.0.1)"}
    world.publisher.take(GroupChanged(0, "waiting"))
    assert world.told().group_nodes == {}


def test_what_is_looked_at_is_told_once_and_replaced(world: World) -> None:
    rank = Process("rank 1.0", 8, "1", "0", (2.5, 1e6))
    world.publisher.see([rank], [Refused("1", "secret", 3)])
    assert world.told().processes[-1] == rank
    assert world.told().refused == [Refused("1", "secret", 3)]
    world.publisher.see([], [])
    assert rank not in world.told().processes and world.told().refused == []
