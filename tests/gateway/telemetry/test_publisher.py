"""What the supervisor tells of births and deaths, read from its page."""

from dataclasses import dataclass
from typing import cast

import msgspec

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
from gateway.telemetry.figures import Process, SupervisorFigures
from gateway.telemetry.page import Page
from gateway.telemetry.publisher import Publisher


@dataclass
class FakeChild:
    title: str
    pid: int
    line: SupervisorLine | None = None


def child(title: str, pid: int, line: SupervisorLine | None = None) -> Child:
    return cast(Child, FakeChild(title, pid, line))


def test_births_deaths_and_restarts_are_told_to_every_worker() -> None:
    publisher = Publisher(2)
    ours, theirs = create_control()
    with ours, theirs:
        tell_everything(publisher, SupervisorLine(ours), ChildLine(theirs))


def tell_everything(publisher: Publisher, line: SupervisorLine, worker: ChildLine) -> None:
    publisher.take(WorkerStarted(1, child("gateway 1", 7, line)))
    packet = worker.receive()
    assert packet is not None
    message, fds = packet
    assert message == Observe(1) and len(fds) == 3
    page = Page(fds[0])

    def told() -> SupervisorFigures:
        record = page.read()
        assert record is not None
        return msgspec.msgpack.decode(record, type=SupervisorFigures)

    publisher.take(GroupStarted(0, [child("rank 0.0", 8), child("rank 0.1", 9)]))
    assert told().processes[1:] == [
        Process("gateway 1", 7),
        Process("rank 0.0", 8, "0", "0"),
        Process("rank 0.1", 9, "0", "1"),
    ]
    publisher.take(GroupLost(0, []))
    assert [process.title for process in told().processes] == ["supervisor", "gateway 1"]
    publisher.take(GroupStarted(0, [child("rank 0.0", 10)]))
    publisher.take(WorkerLost(1))
    publisher.take(WorkerStarted(1, child("gateway 1", 11, line)))
    assert (told().group_restarts, told().worker_restarts) == ({0: 1}, {1: 1})
    publisher.take(GroupChanged(0, "loading"))
    assert told().group_states == {0: "loading"}
    publisher.take(GroupForgotten(0))
    assert told().group_restarts == {}
