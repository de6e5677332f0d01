"""Frames over a pipe: how tokens come back.

    frame    length u32, crc32 u32, payload `length` bytes

The writer never blocks: what the pipe does not take waits in a bounded backlog. The reader hands
out whole frames and refuses what no writer of ours sends. A pipe belongs to one
pair of incarnations, so end-of-file means that the other side is gone.
"""

import fcntl
import os
import struct
import zlib
from collections import deque

from backend.wire.channel import ChannelBroken

HEADER = struct.Struct("<II")
# 1 MiB is the kernel's default ceiling for unprivileged users: about 1,000 steps of 64 tokens.
PIPE_BYTES = 1 << 20
# Of a larger buffer the allocator returns the pages each time: 12 us more for a frame of 10 bytes.
READ_BYTES = 1 << 16
MAX_FRAME_BYTES = 16 << 20
# A worker that leaves 64 MiB unread (some ten million tokens) is stuck, not slow.
MAX_BACKLOG_BYTES = 64 << 20


class PipeBroken(ChannelBroken):
    """The other side is gone, hopelessly behind, or sent what is not a frame."""


def create_pipe() -> tuple[int, int]:
    """Return (read end, write end), both non-blocking."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except PermissionError:
        pass  # the user's pipe memory is used up; the default 64 KiB works too
    return read_fd, write_fd


class PipeWriter:
    """The sending end. Owns its descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._backlog: deque[memoryview] = deque()
        self._backlog_bytes = 0

    def fileno(self) -> int:
        return self._fd

    @property
    def has_backlog(self) -> bool:
        return bool(self._backlog)

    def write(self, payload: bytes) -> None:
        """Send a frame, or queue what the pipe does not take now.

        Raises PipeBroken when the reader is gone or the backlog is full.
        """
        frame = HEADER.pack(len(payload), zlib.crc32(payload)) + payload
        if self._backlog_bytes + len(frame) > MAX_BACKLOG_BYTES:
            raise PipeBroken(f"{self._backlog_bytes} bytes wait unread")
        self._backlog.append(memoryview(frame))
        self._backlog_bytes += len(frame)
        self.flush()

    def flush(self) -> None:
        """Send as much of the backlog as the pipe takes. Raises PipeBroken."""
        while self._backlog:
            frame = self._backlog[0]
            try:
                sent = os.write(self._fd, frame)
            except BlockingIOError:
                return
            except OSError as error:
                raise PipeBroken(f"the reader is gone: {error}") from error
            self._backlog_bytes -= sent
            if sent == len(frame):
                self._backlog.popleft()
            else:
                self._backlog[0] = frame[sent:]

    def close(self) -> None:
        os.close(self._fd)


class PipeReader:
    """The receiving end. Owns its descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()

    def fileno(self) -> int:
        return self._fd

    def read(self) -> list[bytes]:
        """Return the next whole frames that have arrived; empty when none has.

        Raises PipeBroken at end-of-file and for a malformed frame.
        """
        while True:
            try:
                piece = os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                return []
            if not piece:
                raise PipeBroken("the writer is gone")
            self._buffer += piece
            # What else there is waits: frames that are passed on at once stay in the caches, and
            # whoever reads has other things to do between two pieces.
            frames = self._take_frames()
            if frames or len(piece) < READ_BYTES:
                return frames

    def _take_frames(self) -> list[bytes]:
        frames = []
        start = 0
        while len(self._buffer) - start >= HEADER.size:
            length, crc = HEADER.unpack_from(self._buffer, start)
            if length > MAX_FRAME_BYTES:
                raise PipeBroken(f"a frame claims {length} bytes")
            end = start + HEADER.size + length
            if end > len(self._buffer):
                break
            payload = bytes(self._buffer[start + HEADER.size : end])
            if zlib.crc32(payload) != crc:
                raise PipeBroken("a frame has a wrong checksum")
            frames.append(payload)
            start = end
        del self._buffer[:start]
        return frames

    def close(self) -> None:
        os.close(self._fd)
