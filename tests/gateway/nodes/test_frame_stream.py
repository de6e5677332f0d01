"""Both ends of the stream between home and an agent, in one loop."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from backend.wire.tcp.stream import Stream
from gateway.nodes.frame_stream import MAX_FRAME_BYTES, MAX_UNSENT_BYTES, FrameStream, StreamLost
from gateway.nodes.silence import Silence
from tests.backend.wire.tcp.pairs import connected


@pytest.fixture
async def streams() -> AsyncIterator[tuple[FrameStream, FrameStream]]:
    ours, theirs = (FrameStream(Stream(sock)) for sock in connected())
    yield ours, theirs
    ours.close()
    theirs.close()


async def test_frames_arrive_in_order_whatever_their_size(
    streams: tuple[FrameStream, FrameStream],
) -> None:
    ours, theirs = streams
    sent = [b"", b"a", bytes(MAX_FRAME_BYTES), b"z" * 3_000_000, b"end"]
    for payload in sent:
        ours.send(payload)
    assert [await theirs.receive(5) for _ in sent] == sent
    await ours.flush(5)


async def test_silence_is_told_and_may_be_waited_out(
    streams: tuple[FrameStream, FrameStream],
) -> None:
    ours, theirs = streams
    with pytest.raises(StreamLost, match="silent for"):
        await theirs.receive(0.001)
    ours.send(b"after all")
    assert await theirs.receive(5) == b"after all"


async def test_overdue_frame_is_waited_for_if_the_silence_is_excused(
    streams: tuple[FrameStream, FrameStream],
) -> None:
    class Excused(Silence):
        """Over at first, and then not."""

        lefts = (0.001, 60.0)

        @property
        def left_s(self) -> float:
            left_s, *self.lefts = self.lefts  # type: ignore[assignment]
            return left_s

    ours, theirs = streams
    asyncio.get_running_loop().call_later(0.05, ours.send, b"after all")
    assert await theirs.receive_from(Excused(1.0)) == b"after all"
    with pytest.raises(StreamLost, match=r"silent for 0\.01 s"):
        await theirs.receive_from(Silence(0.01))


async def test_what_was_sent_before_an_end_is_given_out(
    streams: tuple[FrameStream, FrameStream],
) -> None:
    ours, theirs = streams
    ours.send(b"last words")
    ours.close()
    assert await theirs.receive(5) == b"last words"
    for _ in range(2):
        with pytest.raises(StreamLost, match="gone"):
            await theirs.receive(5)


async def test_frame_too_long_ends_the_stream(streams: tuple[FrameStream, FrameStream]) -> None:
    ours, theirs = streams
    ours.send(bytes(MAX_FRAME_BYTES + 1))
    with pytest.raises(StreamLost, match="claims"):
        await theirs.receive(5)


async def test_other_side_that_does_not_read_is_lost(
    streams: tuple[FrameStream, FrameStream],
) -> None:
    ours, _ = streams
    for _ in range(20 + MAX_UNSENT_BYTES // MAX_FRAME_BYTES):
        ours.send(bytes(MAX_FRAME_BYTES))
    with pytest.raises(StreamLost, match="bytes behind"):
        await ours.receive(5)


async def test_closing_wakes_who_waits(streams: tuple[FrameStream, FrameStream]) -> None:
    waiting = asyncio.create_task(streams[0].receive(5))
    await asyncio.sleep(0)
    streams[0].close()
    with pytest.raises(StreamLost, match="closed here"):
        await waiting
