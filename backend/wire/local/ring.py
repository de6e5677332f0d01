"""One writer, N readers, records in anonymous shared memory.

    memory   [ record | record | ...           capacity_bytes, a multiple of 64            ]
    record   header 32 bytes: magic u32, length u32, epoch u64, sequence u64, crc32 u32, 0 u32
             payload `length` bytes, may wrap around the end; padded to a multiple of 64

    field               single writer   read by
    memory              RingWriter      every RingReader
    doorbells[i]        RingWriter      reader i: records published since it last looked
    spaces[i]           reader i        RingWriter: bytes reader i has copied out and given back

Both counters are eventfds, so publication is a system call: it orders the copy before it on every
architecture, wakes a sleeping reader, and a writer killed half way has published nothing. No cursor
lies in the shared memory, so nothing there can send a reader astray: a record whose magic, epoch,
sequence, length or checksum is wrong raises RingCorrupt.
"""

import fcntl
import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

HEADER = struct.Struct("<IIQQII")
MAGIC = 0x0517050A
ALIGNMENT = 64


class RingCorrupt(Exception):
    """The memory does not hold what the doorbell promised. The group must not go on."""


@dataclass(frozen=True, slots=True)
class RingFds:
    """The descriptors of one ring. doorbells and spaces have one entry a reader."""

    memory: int
    doorbells: tuple[int, ...]
    spaces: tuple[int, ...]

    def all(self) -> tuple[int, ...]:
        return (self.memory, *self.doorbells, *self.spaces)

    def view(self, reader: int) -> "RingFds":
        """Return what one reader needs: memory, its doorbell, its space."""
        return RingFds(self.memory, (self.doorbells[reader],), (self.spaces[reader],))

    def close(self) -> None:
        for fd in self.all():
            os.close(fd)


def create_ring(capacity_bytes: int, readers: int = 1) -> RingFds:
    """Make a ring without a name: it is gone when the last process that holds it is.

    Raises OSError when the memory cannot be had; nothing is left behind then.
    """
    if capacity_bytes <= 0 or capacity_bytes % ALIGNMENT:
        raise ValueError(f"a ring's capacity must be a multiple of {ALIGNMENT}")
    memory = create_memory("unisono-ring", capacity_bytes)
    flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK
    doorbells = tuple(os.eventfd(0, flags) for _ in range(readers))
    spaces = tuple(os.eventfd(0, flags) for _ in range(readers))
    return RingFds(memory, doorbells, spaces)


def create_memory(name: str, size_bytes: int) -> int:
    """Reserve sealed anonymous memory; its pages exist, so touching them never raises SIGBUS."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(fd, 0, size_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except OSError:
        os.close(fd)
        raise
    return fd


def drain_eventfd(fd: int) -> int:
    """Take an eventfd's count without waiting; 0 when it is zero."""
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


class _Ring:
    def __init__(self, memory_fd: int, epoch: int) -> None:
        self._capacity = os.fstat(memory_fd).st_size
        self._memory = mmap.mmap(memory_fd, self._capacity)
        self._epoch = epoch
        self._position = 0  # bytes since the beginning, padding included; never wraps
        self._sequence = 0

    def _span(self, start: int, size: int) -> tuple[slice, slice]:
        """The one or two pieces of memory that hold `size` bytes from position `start`."""
        start %= self._capacity
        first = min(size, self._capacity - start)
        return slice(start, start + first), slice(0, size - first)


class RingWriter(_Ring):
    """The publishing end. Owns the descriptors it is given."""

    def __init__(self, fds: RingFds, *, epoch: int, reserve_bytes: int = 0) -> None:
        """reserve_bytes: the part of the ring that only urgent records may use."""
        super().__init__(fds.memory, epoch)
        self._fds = fds
        self._reserve = reserve_bytes
        self._freed = [0] * len(fds.doorbells)

    def write(self, payload: bytes | memoryview, *, urgent: bool = False) -> bool:
        """Publish one record to every reader; False, with nothing written, when it has no room.

        Raises ValueError if the payload could never fit.
        """
        size = _padded(len(payload))
        limit = self._capacity if urgent else self._capacity - self._reserve
        if size > limit:
            raise ValueError(f"a record of {len(payload)} bytes does not fit a ring of {limit}")
        if size > self._room(limit):
            return False
        head = self._position % self._capacity
        crc = zlib.crc32(payload)
        HEADER.pack_into(
            self._memory, head, MAGIC, len(payload), self._epoch, self._sequence, crc, 0
        )
        front, rest = self._span(head + HEADER.size, len(payload))
        cut = front.stop - front.start
        self._memory[front] = payload[:cut]
        self._memory[rest] = payload[cut:]
        self._position += size
        self._sequence += 1
        for doorbell in self._fds.doorbells:
            os.eventfd_write(doorbell, 1)
        return True

    def _room(self, limit: int) -> int:
        for i, space in enumerate(self._fds.spaces):
            self._freed[i] += drain_eventfd(space)
        return limit - (self._position - min(self._freed))

    def close(self) -> None:
        self._memory.close()
        self._fds.close()


class RingReader(_Ring):
    """One consuming end. Owns the descriptors it is given."""

    def __init__(self, fds: RingFds, *, epoch: int) -> None:
        """fds: of one reader, as RingFds.view() has them."""
        super().__init__(fds.memory, epoch)
        self._fds = fds
        [self._doorbell], [self._space] = fds.doorbells, fds.spaces

    def fileno(self) -> int:
        """Return the doorbell: readable when there is something to read."""
        return self._doorbell

    def read(self) -> Sequence[bytes]:
        """Copy out every record published so far, oldest first; empty when there is none.

        Raises RingCorrupt; the records before the bad one are lost with it.
        """
        count = drain_eventfd(self._doorbell)
        if count == 0:
            return ()
        start = self._position
        records = [self._read_one() for _ in range(count)]
        os.eventfd_write(self._space, self._position - start)
        return records

    def _read_one(self) -> bytes:
        head = self._position % self._capacity
        magic, length, epoch, sequence, crc, _ = HEADER.unpack_from(self._memory, head)
        if magic != MAGIC or epoch != self._epoch or sequence != self._sequence:
            raise RingCorrupt(f"record {self._sequence} of epoch {self._epoch} is not there")
        if _padded(length) > self._capacity:
            raise RingCorrupt(f"record {sequence} claims {length} bytes")
        front, rest = self._span(head + HEADER.size, length)
        payload = self._memory[front] + self._memory[rest]
        if zlib.crc32(payload) != crc:
            raise RingCorrupt(f"record {sequence} has a wrong checksum")
        self._position += _padded(length)
        self._sequence += 1
        return payload

    def close(self) -> None:
        self._memory.close()
        self._fds.close()


def _padded(payload_bytes: int) -> int:
    return -(-(HEADER.size + payload_bytes) // ALIGNMENT) * ALIGNMENT
