"""A page of shared memory with one writer: its last record, for whoever looks.

    0   u64  version: odd while a record is being written
    8   u32  length of the record
    12  u32  CRC-32 of the record
    16       the record

The memory has no name, so nothing is left of it when the last process that maps it is gone; it
outlives its writer's death, so a successor goes on where that one stopped. Knows no figures.
"""

import mmap
import os
import struct
import zlib

PAGE_BYTES = 1 << 18
_HEADER = struct.Struct("<QII")
# A record is written in microseconds; who meets ten versions of it in a row is being starved.
_TRIES = 10


class Page:
    """One process's view of a page. Only one process may write it."""

    def __init__(self, fd: int) -> None:
        """fd: of create_page(); it is not needed any more when this returns."""
        self._memory = mmap.mmap(fd, PAGE_BYTES)

    def write(self, record: bytes) -> None:
        """Replace the record. Raises ValueError, and keeps the old one, if it does not fit."""
        end = _HEADER.size + len(record)
        if end > PAGE_BYTES:
            raise ValueError(f"a record of {len(record)} bytes does not fit into a page")
        version = _HEADER.unpack_from(self._memory)[0] | 1  # a writer may have died half way
        self._memory[:8] = version.to_bytes(8, "little")
        self._memory[_HEADER.size : end] = record
        _HEADER.pack_into(self._memory, 0, version, len(record), zlib.crc32(record))
        self._memory[:8] = (version + 1).to_bytes(8, "little")

    def read(self) -> bytes | None:
        """Return the record; None if there is none or its writer died half way."""
        for _ in range(_TRIES):
            version, length, checksum = _HEADER.unpack_from(self._memory)
            record = self._memory[_HEADER.size : _HEADER.size + length]
            if version and version % 2 == 0 and zlib.crc32(record) == checksum:
                return record
        return None

    def close(self) -> None:
        self._memory.close()


def create_page() -> int:
    """Return the descriptor of a new, empty page; the caller owns it."""
    fd = os.memfd_create("unisono-figures", os.MFD_CLOEXEC)
    os.posix_fallocate(fd, 0, PAGE_BYTES)
    return fd
