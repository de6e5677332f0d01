"""The ring, in one process and across a kill."""

import multiprocessing
import os
import signal
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.wire.local.ring import HEADER, MAGIC, RingCorrupt, RingFds, RingReader, RingWriter
from backend.wire.local.ring import create_ring as make_fds


def copied(fds: RingFds) -> RingFds:
    """Return descriptors that another end may own."""
    return RingFds(
        os.dup(fds.memory), tuple(map(os.dup, fds.doorbells)), tuple(map(os.dup, fds.spaces))
    )


def make_ring(
    capacity: int = 1024, readers: int = 1, reserve: int = 0
) -> tuple[RingWriter, list[RingReader]]:
    fds = make_fds(capacity, readers)
    ends = [RingReader(copied(fds.view(reader)), epoch=7) for reader in range(readers)]
    return RingWriter(fds, epoch=7, reserve_bytes=reserve), ends


@given(sizes=st.lists(st.integers(0, 300), max_size=60), drain=st.lists(st.booleans(), min_size=60))
@settings(deadline=None, max_examples=50)
def test_ring_delivers_records_once_in_order_and_whole(sizes: list[int], drain: list[bool]) -> None:
    writer, readers = make_ring(readers=2)
    sent: list[bytes] = []
    seen: list[list[bytes]] = [[], []]
    for number, size in enumerate(sizes):
        payload = bytes([number % 251]) * size
        if writer.write(payload):
            sent.append(payload)
        if drain[number]:
            for got, reader in zip(seen, readers, strict=True):
                got.extend(reader.read())
    for got, reader in zip(seen, readers, strict=True):
        got.extend(reader.read())
        assert got == sent
        reader.close()
    writer.close()


def test_ring_refuses_when_full_and_recovers() -> None:
    writer, (reader,) = make_ring(capacity=256)
    assert writer.write(b"a" * 96) and writer.write(b"b" * 96)
    assert not writer.write(b"c")
    assert list(reader.read()) == [b"a" * 96, b"b" * 96]
    assert writer.write(b"c")


def test_ring_frees_what_the_slowest_reader_has_read() -> None:
    writer, (fast, slow) = make_ring(capacity=256, readers=2)
    assert writer.write(b"a" * 200)
    fast.read()
    assert not writer.write(b"b" * 200)
    slow.read()
    assert writer.write(b"b" * 200)


def test_ring_keeps_a_reserve_for_urgent_records() -> None:
    writer, (reader,) = make_ring(capacity=1024, reserve=64)
    while writer.write(b"submit"):
        pass
    assert writer.write(b"abort", urgent=True)
    assert reader.read()[-1] == b"abort"


def test_ring_raises_for_a_record_that_can_never_fit() -> None:
    writer, _ = make_ring(capacity=256)
    with pytest.raises(ValueError, match="does not fit"):
        writer.write(b"x" * 256)


def test_ring_lays_a_record_out_as_documented() -> None:
    fds = make_fds(1024)
    RingWriter(fds, epoch=7).write(b"hello")
    memory = os.pread(fds.memory, 64, 0)
    magic, length, epoch, sequence, _, _ = struct.unpack("<IIQQII", memory[: HEADER.size])
    assert (magic, length, epoch, sequence) == (MAGIC, 5, 7, 0)
    assert memory[HEADER.size : HEADER.size + 5] == b"hello"
    assert os.readlink(f"/proc/self/fd/{fds.memory}").startswith("/memfd:unisono-ring")


@pytest.mark.parametrize("offset", [0, 4, 8, 16, 24, 32, 36])
def test_ring_finds_a_flipped_byte(offset: int) -> None:
    fds = make_fds(1024)
    writer, reader = RingWriter(fds, epoch=7), RingReader(copied(fds), epoch=7)
    writer.write(b"hello world")
    byte = os.pread(fds.memory, 1, offset)[0]
    os.pwrite(fds.memory, bytes([byte ^ 0x40]), offset)
    with pytest.raises(RingCorrupt):
        reader.read()


def test_ring_finds_a_doorbell_without_a_record() -> None:
    writer, (reader,) = make_ring()
    writer.write(b"one")
    reader.read()
    os.eventfd_write(reader.fileno(), 1)
    with pytest.raises(RingCorrupt):
        reader.read()


def _write_half_and_die(fds: RingFds) -> None:
    writer = RingWriter(fds, epoch=7)
    writer.write(b"whole")
    HEADER.pack_into(writer._memory, 64, MAGIC, 4, 7, 1, 0, 0)
    os.kill(os.getpid(), signal.SIGKILL)


def test_ring_writer_killed_half_way_publishes_nothing() -> None:
    fds = make_fds(1024)
    reader = RingReader(copied(fds), epoch=7)
    child = multiprocessing.get_context("fork").Process(target=_write_half_and_die, args=(fds,))
    child.start()
    child.join(10)
    assert child.exitcode == -signal.SIGKILL
    assert list(reader.read()) == [b"whole"]
    assert list(reader.read()) == []
