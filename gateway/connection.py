"""One HTTP connection: Hypercorn's, within limits of ours.

Owns what a client may do to a connection before and after there is a request: how many there are,
how long a head may take, what a head may look like, how long an answer may stay unread. Hypercorn
0.18 has no such limits, switches to HTTP/2 when asked in clear text, and keeps a half closed
connection for keep_alive_timeout. Must not know requests. Installed by worker.py.
"""

import asyncio
import contextlib
import fcntl
import termios
from array import array
from dataclasses import dataclass
from functools import partial
from typing import Any

import h11
from hypercorn.asyncio import run, tcp_server
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol

MAX_READ_BYTES = 1 << 16
MAX_TARGET_BYTES = 1 << 13
MAX_HEADERS = 100
# 2 KB/s with the default time; what a stream's reader must keep up with, too (sse.py).
LEAST_READ_BYTES = 1 << 16
_BARE = b"connection: close\r\ncontent-length: 0\r\n\r\n"
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\n" + _BARE
TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n" + _BARE


@dataclass(slots=True)
class Bounds:
    """Limits of all connections of a worker, and how many it has.

    head_timeout_s: from the first byte of a request to the end of its head. send_timeout_s: a peer
    that takes less than 64 KiB of an answer in so long is given up.
    """

    max_connections: int = 4096
    head_timeout_s: float = 10.0
    send_timeout_s: float = 30.0
    num_connections: int = 0


class Connection(tcp_server.TCPServer):  # type: ignore[misc]  # Hypercorn's types are not read
    """Serves one client until either side has enough."""

    def __init__(self, bounds: Bounds, *args: Any) -> None:
        super().__init__(*args)
        self._bounds = bounds
        self._head_timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve, or turn away at once when there are too many."""
        bounds = self._bounds
        if bounds.num_connections >= bounds.max_connections:
            self.writer.write(TOO_MANY)
            await self._close()
            return
        bounds.num_connections += 1
        try:
            await super().run()
        except asyncio.CancelledError:
            # Hypercorn's way to end what is left when it stops. Python 3.11 logs a traceback for
            # every connection whose task ends cancelled.
            self.writer.transport.abort()
        finally:
            bounds.num_connections -= 1
            self._end_head()

    async def protocol_send(self, event: Event) -> None:
        """Send what the protocol says, waiting for a reader no longer than it may take."""
        if isinstance(event, RawData):
            async with self.send_lock:
                try:
                    self.writer.write(event.data)
                    await self._drain()
                except (ConnectionError, RuntimeError):
                    await self.protocol.handle(Closed())
            return
        if isinstance(event, Updated):
            self._end_head()
        await super().protocol_send(event)

    async def _read_data(self) -> None:
        """Read until the client leaves; nothing can make the connection busy again after that."""
        while not self.reader.at_eof():
            try:
                data = await self.reader.read(MAX_READ_BYTES)
            except OSError:
                break
            if self.protocol.stream is None and self._head_timer is None and data:
                delay_s = self._bounds.head_timeout_s
                self._head_timer = self.loop.call_later(delay_s, self._give_up_head)
            await self.protocol.handle(RawData(data))
        await self.protocol.handle(Closed())
        await self.idle_task.stop()

    def _give_up_head(self) -> None:
        self.writer.write(TOO_SLOW)
        self.writer.close()

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    async def _drain(self) -> None:
        """Wait until the peer has taken enough. Raises ConnectionError when it is too slow."""
        transport = self.writer.transport
        if not transport.get_write_buffer_size():
            await self.writer.drain()
            return
        drained = asyncio.ensure_future(self.writer.drain())
        try:
            while not drained.done():
                most = self._num_unread() - LEAST_READ_BYTES
                await asyncio.wait((drained,), timeout=self._bounds.send_timeout_s)
                if not drained.done() and self._num_unread() > most:
                    transport.abort()
                    raise ConnectionAbortedError
            drained.result()
        finally:
            drained.cancel()

    def _num_unread(self) -> int:
        """Bytes that the peer has not taken: ours, and the kernel's, who takes more from us in
        steps of a megabyte or so only."""
        transport = self.writer.transport
        queued = array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        return int(transport.get_write_buffer_size()) + queued[0]


class Http1(H11Protocol):  # type: ignore[misc]
    """HTTP/1.1 and nothing else; a head that could be read in two ways is refused."""

    def __init__(self, *args: Any) -> None:
        """args: as for Hypercorn's ProtocolWrapper, whose last names the protocol."""
        super().__init__(*args[:-1])

    async def _check_protocol(self, event: h11.Request) -> None:
        """Do not switch to HTTP/2 in clear text."""

    async def _create_stream(self, request: h11.Request) -> None:
        status = _refusal(request)
        if status is not None:
            await self._send_error_response(status)
            await self.send(Closed())
            return
        if any(name == b"upgrade" for name, _ in request.headers):
            # RFC 9110 says that it is to be ignored; Hypercorn would take up a websocket.
            headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
            request = h11.Request(
                method=request.method,
                target=request.target,
                headers=headers,
                http_version=request.http_version,
            )
        await super()._create_stream(request)


def install(bounds: Bounds) -> None:
    """Have Hypercorn serve with these; it takes its classes from names in its modules."""
    run.TCPServer = partial(Connection, bounds)
    tcp_server.ProtocolWrapper = Http1


def _refusal(request: h11.Request) -> int | None:
    """Return the status for a head that is not served. h11 has refused what breaks its grammar."""
    if request.http_version not in (b"1.0", b"1.1"):
        return 505
    if len(request.target) > MAX_TARGET_BYTES:
        return 414
    names = [name for name, _ in request.headers]
    if len(names) > MAX_HEADERS:
        return 431
    if b"transfer-encoding" in names and (
        b"content-length" in names or request.http_version == b"1.0"
    ):
        return 400
    return None
