"""What streams alone have: encryption apart, what a peer of another machine may do to us."""

import asyncio
import socket
import struct

import pytest

from backend.wire import messages
from backend.wire.channel import ChannelBroken, PeerGone
from backend.wire.tcp.ends import Goodbye, TcpLeadEnd, TcpWorkerEnd
from backend.wire.tcp.frames import FrameQueue, Kind
from backend.wire.tcp.stream import Stream
from tests.backend.wire.tcp.pairs import (
    SOME_REPLIES,
    WAIT_S,
    connected,
    ends,
    submit,
    wait_for_bytes,
)


def frame(payload: bytes, kind: Kind = Kind.MESSAGE) -> bytes:
    queue = FrameQueue(1 << 20)
    queue.put(kind, payload)
    return bytes(queue.head())


def test_garbled_request_ends_the_channel_not_the_group() -> None:
    """Memory that is shared on one machine is another matter: RingCorrupt."""
    ours, theirs = connected()
    lead = TcpLeadEnd(5, Stream(ours))
    theirs.sendall(frame(b"\xc1 no message"))
    with pytest.raises(ChannelBroken, match="not a request"):
        while not lead.receive():
            pass
    lead.close()
    theirs.close()


def test_deliberate_end_is_told_from_a_death() -> None:
    lead, worker = ends()
    lead.close()
    with pytest.raises(Goodbye):
        _read_until_the_end(worker)
    ours, theirs = connected()
    worker = TcpWorkerEnd(Stream(theirs))
    ours.close()  # as the kernel does for the dead
    with pytest.raises(PeerGone):
        _read_until_the_end(worker)


def test_reset_connection_counts_as_a_death() -> None:
    ours, theirs = connected()
    worker = TcpWorkerEnd(Stream(theirs))
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ours.close()
    with pytest.raises(PeerGone):
        _read_until_the_end(worker)


async def test_replies_before_damage_count_and_the_loop_hears_of_it() -> None:
    ours, theirs = connected()
    worker = TcpWorkerEnd(Stream(theirs))
    told = asyncio.Event()
    worker.listen(asyncio.get_running_loop(), told.set)
    good = frame(messages.encode(SOME_REPLIES[0]))
    ours.sendall(good + good)  # the second has a number that was used
    async with asyncio.timeout(WAIT_S):
        await told.wait()
        replies = worker.receive()
        while not replies:
            replies = worker.receive()
        assert replies == SOME_REPLIES[:1]
        told.clear()
        await told.wait()
    with pytest.raises(ChannelBroken, match="damaged"):
        worker.receive()
    worker.close()
    ours.close()


def test_nothing_is_sent_after_a_frame_that_was_cut() -> None:
    """A goodbye in the middle of a frame would be taken for a part of it."""
    lead, worker = ends()
    while worker.send(submit(1, 8000)):
        pass
    worker.close()
    requests = 0
    with pytest.raises(PeerGone):
        while True:
            requests += len(lead.receive())
    assert requests > 0
    lead.close()


def _read_until_the_end(worker: TcpWorkerEnd) -> None:
    try:
        while True:
            wait_for_bytes(worker)
            worker.receive()
    finally:
        worker.close()
