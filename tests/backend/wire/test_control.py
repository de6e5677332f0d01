"""The line between the supervisor and a child: messages, descriptors and the end."""

import os
import socket
from collections.abc import Iterator

import msgspec
import pytest

from backend.wire.control import (
    Attach,
    ChildLine,
    ControlClosed,
    GroupWiring,
    Progress,
    Stop,
    SupervisorLine,
    create_control,
)
from backend.wire.local.heartbeat import Phase


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = create_control()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_control_line_carries_descriptors_with_their_message(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    supervisor, child = SupervisorLine(ends[0]), ChildLine(ends[1])
    assert child.receive() is None
    read, write = os.pipe()
    supervisor.send(GroupWiring(), (read,))
    supervisor.send(Attach(1, 2, 3))
    packet = child.receive()
    assert packet is not None
    message, [copy] = packet
    assert message == GroupWiring() and copy != read
    os.write(write, b"x")
    assert os.read(copy, 1) == b"x"
    assert child.receive() == (Attach(1, 2, 3), [])
    for fd in (read, write, copy):
        os.close(fd)


def test_control_line_carries_phases_as_numbers(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    supervisor, child = SupervisorLine(ends[0]), ChildLine(ends[1])
    child.send(Progress(0, Phase.WARM_UP, 0.5))
    assert supervisor.receive() == Progress(0, Phase.WARM_UP, 0.5)
    ends[1].send(msgspec.msgpack.encode(["progress", 0, "warming up", 0.5]))
    with pytest.raises(msgspec.ValidationError):
        supervisor.receive()


def test_control_line_shows_the_end_of_the_other_side(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    supervisor, child = SupervisorLine(ends[0]), ChildLine(ends[1])
    supervisor.send(Stop())
    supervisor.close()
    assert child.receive() == (Stop(), [])
    with pytest.raises(ControlClosed, match="end of file"):
        child.receive()
    with pytest.raises(ControlClosed):
        child.send(Progress(0, Phase.LOAD, 0.0))
