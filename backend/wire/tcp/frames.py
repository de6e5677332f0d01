"""Frames of a stream between machines.

    frame    length u32, crc32 u32, kind u8, payload `length` bytes

The checksum is over length, kind, the frame's number since the handshake and the payload: what is
damaged, lost, repeated or out of order is refused, and the channel ends. It is no proof against
somebody who may write to the network: that is what encryption is for. Knows no sockets.
"""

import enum
import struct
import zlib
from collections import deque
from collections.abc import Iterator

from backend.wire.channel import ChannelBroken

HEADER = struct.Struct("<IIB")
COVERED = struct.Struct("<IBQ")
# A request has the room of a ring, a reply that of a pipe.
MAX_FRAME_BYTES = 16 << 20


class Kind(enum.IntEnum):
    """What a frame holds. MESSAGE: one of messages.py. GOODBYE: nothing; the sender closes the
    channel of its own will, and is not dead."""

    MESSAGE = 0
    GOODBYE = 1


_KINDS = dict(enumerate(Kind))


class FrameParser:
    """Takes a stream in any pieces, gives whole frames."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max = max_frame_bytes
        self._buffer = bytearray()
        self._number = 0

    def feed(self, piece: bytes) -> Iterator[tuple[Kind, bytes]]:
        """Take a piece; yield the frames it completes. Raises ChannelBroken for what is none.

        To be exhausted before the next piece.
        """
        buffer = self._buffer
        buffer += piece
        start, available = 0, len(buffer)
        while available - start >= HEADER.size:
            length, crc, kind = HEADER.unpack_from(buffer, start)
            if length > self._max:
                raise ChannelBroken(f"a frame claims {length} bytes")
            end = start + HEADER.size + length
            if end > available:
                break
            payload = bytes(buffer[start + HEADER.size : end])
            if checksum(kind, self._number, payload) != crc or kind not in _KINDS:
                raise ChannelBroken(f"frame {self._number} is damaged")
            self._number += 1
            start = end
            yield _KINDS[kind], payload
        del buffer[:start]


class FrameQueue:
    """Frames that the stream does not take now, within a bound."""

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._frames: deque[memoryview] = deque()
        self._number = 0
        self.num_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._frames)

    def has_room(self, payload_bytes: int, *, spared_bytes: int = 0) -> bool:
        """Whether a frame fits, and leaves so many bytes free."""
        return self.num_bytes + HEADER.size + payload_bytes <= self._max - spared_bytes

    def put(self, kind: Kind, payload: bytes) -> None:
        """Append a frame, for which there is room."""
        head = HEADER.pack(len(payload), checksum(kind, self._number, payload), kind)
        self._number += 1
        self._frames.append(memoryview(head + payload))
        self.num_bytes += HEADER.size + len(payload)

    def head(self) -> memoryview:
        """Return what of the oldest frame is left."""
        return self._frames[0]

    def drop(self, num_bytes: int) -> None:
        """So many bytes of the head have been sent."""
        self.num_bytes -= num_bytes
        head = self._frames[0]
        if num_bytes == len(head):
            self._frames.popleft()
        else:
            self._frames[0] = head[num_bytes:]


def checksum(kind: int, number: int, payload: bytes | memoryview) -> int:
    """Return the crc32 that a frame carries. number: of frames before it on its stream."""
    return zlib.crc32(payload, zlib.crc32(COVERED.pack(len(payload), kind, number)))
