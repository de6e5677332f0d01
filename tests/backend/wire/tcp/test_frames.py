"""Frames out of streams that are cut anywhere, or damaged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.wire.channel import ChannelBroken
from backend.wire.tcp.frames import HEADER, FrameParser, FrameQueue, Kind

PAYLOADS = st.lists(st.binary(max_size=300), min_size=1, max_size=6)


def stream_of(payloads: list[bytes]) -> bytes:
    queue = FrameQueue(1 << 20)
    for payload in payloads:
        queue.put(Kind.MESSAGE, payload)
    stream = b""
    while queue:
        stream += queue.head()
        queue.drop(len(queue.head()))
    assert queue.num_bytes == 0
    return stream


@given(PAYLOADS, st.data())
def test_frames_do_not_depend_on_where_a_stream_is_cut(
    payloads: list[bytes], data: st.DataObject
) -> None:
    stream = stream_of(payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parser = FrameParser()
    found: list[tuple[Kind, bytes]] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += parser.feed(stream[start:end])
    assert found == [(Kind.MESSAGE, payload) for payload in payloads]


@given(PAYLOADS, st.data())
def test_no_damaged_bit_becomes_a_frame(payloads: list[bytes], data: st.DataObject) -> None:
    """A changed bit is refused, or leaves the parser waiting for a length that never comes; what
    stood before it counts."""
    stream = bytearray(stream_of(payloads))
    bit = data.draw(st.integers(0, 8 * len(stream) - 1))
    stream[bit // 8] ^= 1 << bit % 8
    whole = 0
    end = 0
    for payload in payloads:
        end += HEADER.size + len(payload)
        if end > bit // 8:
            break
        whole += 1
    found = []
    try:
        for frame in FrameParser().feed(bytes(stream)):
            found.append(frame)
    except ChannelBroken:
        pass
    assert found == [(Kind.MESSAGE, payload) for payload in payloads[:whole]]


@pytest.mark.parametrize("order", [[0, 0], [1], [1, 0]])
def test_repeated_lost_and_swapped_frames_are_refused(order: list[int]) -> None:
    frames = [stream_of([b"first"]), stream_of([b"first", b"second"])[len(stream_of([b"first"])) :]]
    with pytest.raises(ChannelBroken, match="damaged"):
        list(FrameParser().feed(b"".join(frames[number] for number in order)))


def test_frame_over_the_bound_is_refused_before_it_arrives() -> None:
    with pytest.raises(ChannelBroken, match="claims 101 bytes"):
        list(FrameParser(100).feed(stream_of([bytes(101)])[: HEADER.size]))


def test_queue_says_when_it_is_full() -> None:
    queue = FrameQueue(100)
    assert queue.has_room(91) and not queue.has_room(92)
    assert queue.has_room(51, spared_bytes=40) and not queue.has_room(52, spared_bytes=40)
    queue.put(Kind.MESSAGE, bytes(51))
    assert not queue.has_room(0, spared_bytes=40) and queue.has_room(31)
