"""Writes pieces of a streamed body past the HTTP server, straight to the socket.

A piece that goes through ASGI costs a turn of a task, a call through every middleware, an event of
Hypercorn's and one of h11's: two thirds of what a token costs the gateway, the system call apart.
Between the head and the end of a chunked HTTP/1.1 answer none of them keeps any state, so a piece
may as well be framed and written here. Made by worker.py, used by sse.py. Knows no events.
"""

import asyncio
from typing import Any, Protocol, cast

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from starlette.types import ASGIApp, Receive, Scope, Send

EXTENSION = "unisono.chunk_writer"
# With more bytes waiting the reader is slow: the piece then takes the way that waits for it.
MAX_BUFFERED_BYTES = 16 * 1024


class PieceWriter(Protocol):
    """A way for pieces of a body that never waits."""

    def write(self, body: bytes) -> bool:
        """Write a piece, or say that it must be sent in the usual way, now or for ever."""


class ChunkWriter:
    """The PieceWriter of one answer on Hypercorn."""

    def __init__(self, stream: Any, transport: asyncio.WriteTransport) -> None:
        """stream: Hypercorn's, whose answer has no content-length. transport: its socket's."""
        self._stream = stream
        self._transport = transport

    def write(self, body: bytes) -> bool:
        """Write a chunk after what was sent before, unless that is over or read slowly."""
        transport = self._transport
        if (
            self._stream.closed
            or self._stream.state is not ASGIHTTPState.RESPONSE
            or transport.is_closing()
            or transport.get_write_buffer_size() > MAX_BUFFERED_BYTES
        ):
            return False
        transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True


def offering_chunk_writers(app: ASGIApp) -> ASGIApp:
    """Return an app that is given a ChunkWriter in its scope's extensions where there can be one.

    To be served by Hypercorn itself: what that passes as `send` leads to the socket.
    """

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["http_version"] == "1.1" and scope["method"] == "POST":
            writer = _writer_of(send)
            if writer is not None:
                scope["extensions"][EXTENSION] = writer
        await app(scope, receive, send)

    return served


def _writer_of(send: Any) -> ChunkWriter | None:
    """Follow Hypercorn's methods from an answer to its socket; None if they lead elsewhere."""
    stream = getattr(send, "__self__", None)
    protocol = getattr(getattr(stream, "send", None), "__self__", None)
    server = getattr(getattr(protocol, "send", None), "__self__", None)
    if not (
        isinstance(stream, HTTPStream)
        and isinstance(protocol, H11Protocol)
        and isinstance(server, TCPServer)
    ):
        return None
    return ChunkWriter(stream, cast(asyncio.WriteTransport, server.writer.transport))
