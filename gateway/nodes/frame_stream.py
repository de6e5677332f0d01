"""Frames of the stream between the supervisor and an agent, which has been authenticated.

    frame    length u32, crc32 u32, payload `length` bytes

A stack of every thread of a group is the longest that is said; what is longer is no frame of ours.
"""

import asyncio
import struct
import zlib

HEADER = struct.Struct("<II")
MAX_FRAME_BYTES = 4 << 20
# A supervisor so far behind, or an agent, is as good as gone.
MAX_UNSENT_BYTES = 16 << 20


class StreamLost(Exception):
    """The other side is gone, silent, or sent what is not a frame. The message says which."""


class FrameStream:
    """One side of a stream. Owns it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._head: tuple[int, int] | None = None  # of a frame whose payload is still to come

    @property
    def own_host(self) -> str:
        """This side's address, as the other reaches it."""
        return str(self._writer.get_extra_info("sockname")[0])

    @property
    def peer_host(self) -> str:
        """The other side's address."""
        return str(self._writer.get_extra_info("peername")[0])

    def send(self, payload: bytes) -> None:
        """Send a frame; one that cannot be sent is lost, and so is the stream soon."""
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._writer.transport.abort()
        elif not self._writer.is_closing():
            self._writer.write(HEADER.pack(len(payload), zlib.crc32(payload)) + payload)

    async def receive(self, timeout_s: float) -> bytes:
        """Return the next frame.

        Raises StreamLost, for a silence of `timeout_s` as well, after which it may be called again.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if self._head is None:
                    self._head = HEADER.unpack(await self._reader.readexactly(HEADER.size))
                length, crc = self._head
                if length > MAX_FRAME_BYTES:
                    raise StreamLost(f"a frame claims {length} bytes")
                payload = await self._reader.readexactly(length)
        except TimeoutError as error:
            raise StreamLost(f"silent for {timeout_s:.2g} s") from error
        except asyncio.IncompleteReadError as error:
            raise StreamLost("the connection has ended") from error
        except OSError as error:
            raise StreamLost(f"the connection is lost: {error}") from error
        self._head = None
        if zlib.crc32(payload) != crc:
            raise StreamLost("a frame has a wrong checksum")
        return payload

    async def flush(self, timeout_s: float) -> None:
        """Wait until what was sent has left, or the time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._writer.drain()
        except (TimeoutError, OSError):
            pass

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        """Close without sending what is left."""
        self._writer.transport.abort()
