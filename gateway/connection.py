"""One HTTP connection: Hypercorn's, within limits of ours.

Owns what a client may do to a connection before and after there is a request: how many there are,
how long a head may take, how long an answer may stay unread, and that one who has said all may
still listen. Hypercorn 0.18 has no such limits, keeps a half closed connection for
keep_alive_timeout, and gives up the answer on it. What a head may look like stands in http1.py.
Must not know requests. Installed by worker.py.
"""

import asyncio
import contextlib
import fcntl
import select
import termios
from array import array
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypercorn.asyncio import run, tcp_server
from hypercorn.events import Closed, Event, RawData, Updated

from gateway.http1 import Http1

MAX_READ_BYTES = 1 << 16
# 2 KB/s with the default time; what a stream's reader must keep up with, too (sse.py).
LEAST_READ_BYTES = 1 << 16
# What an application receives whose client has closed its sending side and may have left: it may
# answer with bytes that mean nothing, to find out.
HALF_CLOSED = "unisono.half_closed"
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
        """Read until the client has said all; nothing can make the connection busy after that."""
        while not self.reader.at_eof():
            try:
                data = await self.reader.read(MAX_READ_BYTES)
            except OSError:
                break
            if self.protocol.stream is None and self._head_timer is None and data:
                delay_s = self._bounds.head_timeout_s
                self._head_timer = self.loop.call_later(delay_s, self._give_up_head)
            await self.protocol.handle(RawData(data))
        is_half_closed = self.writer.can_write_eof() and not self.writer.is_closing()
        if is_half_closed and self.protocol.has_request:  # TLS only ends as a whole
            await self._answer_half_closed()
        await self.protocol.handle(Closed())
        await self.idle_task.stop()

    async def _answer_half_closed(self) -> None:
        """Return when the answer under way is over, or the client turns out to have left.

        Both kinds of client have sent FIN. The kernel of one that left answers the next bytes with
        RST, so it is sent some that mean nothing.
        """
        departure = Departure(self.writer.get_extra_info("socket").fileno())
        try:
            probe = self.protocol.probe()
            if probe:
                self.writer.write(probe)
            else:
                await self.protocol.tell({"type": HALF_CLOSED})
            await departure.wait_unless(self.protocol.answered)
        finally:
            departure.close()

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


class Departure:
    """Tells when a connection whose reading side has ended ends altogether.

    uvloop does not look at a socket any more of which nothing is to be read. An epoll descriptor
    of one's own that asks for no event is still readable once there is an error.
    """

    def __init__(self, fd: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._epoll.register(fd, 0)
        self._happened = asyncio.Event()
        self._loop.add_reader(self._epoll.fileno(), self._happened.set)

    async def wait_unless(self, other: asyncio.Event) -> None:
        """Return when it has happened, or the other event has."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._happened, other)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def close(self) -> None:
        """Stop looking."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()


def install(bounds: Bounds) -> None:
    """Have Hypercorn serve with these; it takes its classes from names in its modules."""
    run.TCPServer = partial(Connection, bounds)
    tcp_server.ProtocolWrapper = Http1
