"""Server-sent events, cheaply: bytes in, few large writes out, one timer a response.

Owns framing (`data: ...` and a blank line, separator "\\n"), pings in silence, and giving up on
readers that left or stall. Must not know what an event says, except how a chunk carries text.
Fed by callbacks in the event loop; called by the endpoints that stream.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec
from sse_starlette.sse import EventSourceResponse
from starlette.types import Message, Receive, Scope, Send

from gateway.answers.chunk_writer import EXTENSION, PieceWriter
from gateway.requests.body import disconnected
from gateway.service import Limits

logger = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
# About 64 KiB of one-token chunks: a reader of 2 KB/s takes a full write within the send timeout.
MAX_EVENTS_PER_WRITE = 256

_encode = msgspec.json.Encoder().encode


def event(data: bytes, name: str = "") -> bytes:
    """Frame JSON, which has no line break inside, as one event, with a name if it has one."""
    head = b"event: %b\n" % name.encode() if name else b""
    return b"%bdata: %b\n\n" % (head, data)


class ChunkTemplate:
    """A chunk encoded once, around the text of its only choice.

    Encoding just the text costs a quarter of encoding the whole chunk for every token.
    """

    def __init__(self, chunk: msgspec.Struct, *fields: str, name: str = "") -> None:
        """chunk: the first of each field in it is "", in that order. No JSON string can contain
        bare quotes, so that is the first match. name: of the event."""
        self._parts = holes(event(_encode(chunk), name), *fields)

    def event(self, text: str) -> bytes:
        """Return the framed chunk with `text` in each of the fields."""
        return _encode(text).join(self._parts)


def holes(framed: bytes, *fields: str) -> list[bytes]:
    """Cut JSON where the first of each field has its value, "", in that order; return what is
    around these."""
    parts = []
    for field in fields:
        key = _encode(field) + b":"
        head, framed = framed.split(key + b'""', 1)
        parts.append(head + key)
    return [*parts, framed]


class EventQueue:
    """Framed events on their way from callbacks to the client.

    put() never blocks. The one task that iterates takes all that piled up since its last turn, as
    one piece. While that task has nothing to do, an outlet takes what piled up in a turn of the
    event loop, without waking it.
    """

    def __init__(self, ping: bytes = PING) -> None:
        """ping: what keeps a silent stream open; empty for nothing."""
        self.is_broken = False  # ended by fail()
        self._ping = ping
        self._events: list[bytes] = []
        self._outlet: Callable[[bytes], bool] | None = None
        self._is_flush_due = False
        self._is_ended = False
        self._is_ping_due = False
        self._waiter: asyncio.Future[None] | None = None

    def put(self, framed: bytes) -> None:
        """Queue one framed event."""
        self._events.append(framed)
        if self._outlet is None or self._is_ended:
            self._wake()
        elif not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def use(self, outlet: Callable[[bytes], bool]) -> None:
        """Have pieces written by `outlet`, which says no if the task must."""
        self._loop = asyncio.get_running_loop()
        self._outlet = outlet

    def end(self, last: bytes = DONE) -> None:
        """Let the stream end properly after what is queued and a last event."""
        self._is_ended = True
        self.put(last)

    def fail(self, framed: bytes) -> None:
        """Let the stream break off after what is queued and an event that tells why.

        Neither [DONE] nor the end of the HTTP body follows, so that every kind of client notices.
        """
        self._is_ended = self.is_broken = True
        self.put(framed)

    def ping(self) -> None:
        """Let a ping out, unless an event is there by then."""
        self._is_ping_due = bool(self._ping)
        self._wake()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._events:
            if self._is_ended:
                raise StopAsyncIteration
            if self._is_ping_due:
                self._is_ping_due = False
                return self._ping
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._take()

    def _take(self) -> bytes:
        """Return the next events as one piece."""
        self._is_ping_due = False
        if len(self._events) <= MAX_EVENTS_PER_WRITE:
            events, self._events = self._events, []
        else:
            events = self._events[:MAX_EVENTS_PER_WRITE]
            del self._events[:MAX_EVENTS_PER_WRITE]
        return b"".join(events)

    def _flush(self) -> None:
        """Give the outlet what there is, unless the task is about to write."""
        self._is_flush_due = False
        assert self._outlet is not None
        while self._events and self._waiter is not None and not self._waiter.done():
            piece = self._take()
            if not self._outlet(piece):
                self._events.insert(0, piece)
                self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class EventStream(EventSourceResponse):
    """The response that writes an EventQueue out.

    The inherited __call__ spends four tasks and a poll twice a second on each response and a
    cancel scope on each write. This one has one task, which watches the client, and one timer,
    which looks now and then at what the writer is doing.
    """

    def __init__(
        self,
        queue: EventQueue,
        limits: Limits,
        on_close: Callable[[], None],
        headers: Mapping[str, str] | None = None,
        media_type: str = "text/event-stream",
    ) -> None:
        """on_close: called once, when nothing more can be sent, whatever the reason."""
        super().__init__(
            queue,
            headers={"cache-control": "no-cache", **(headers or {})},
            media_type=media_type,
            ping=limits.ping_interval_s,
            sep="\n",
            send_timeout=limits.send_timeout_s,
        )
        self._queue = queue
        self._limits = limits
        self._on_close = on_close
        self._is_given_up = False
        self._is_writing = False
        self._progress_s = 0.0  # loop time when the write under way began, or the last one ended
        self._writer: PieceWriter | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the stream ends, the client leaves, or a write stalls."""
        self._loop = asyncio.get_running_loop()
        self._guard = asyncio.timeout(None)
        self._progress_s = self._loop.time()
        self._check()
        watcher = self._loop.create_task(self._watch(receive))
        try:
            async with self._guard:
                start = {"status": self.status_code, "headers": self.raw_headers}
                await self._write(send, {"type": "http.response.start", **start})
                self._writer = scope.get("extensions", {}).get(EXTENSION)
                if self._writer is not None:
                    self._queue.use(self._write_now)
                async for body in self._queue:
                    await self._write(send, _body(body, more_body=True))
                if not self._queue.is_broken:
                    await self._write(send, _body(b"", more_body=False))
        except OSError:
            pass  # nobody to tell: the guard's TimeoutError, or a server that lost the client
        finally:
            self._timer.cancel()
            watcher.cancel()
            self._on_close()

    async def _write(self, send: Send, message: Message) -> None:
        self._is_writing, self._progress_s = True, self._loop.time()
        await send(message)
        self._is_writing, self._progress_s = False, self._loop.time()

    def _write_now(self, body: bytes) -> bool:
        """Write without waiting, or say that it cannot be."""
        assert self._writer is not None
        if not self._writer.write(body):
            return False
        self._progress_s = self._loop.time()
        return True

    async def _watch(self, receive: Receive) -> None:
        await disconnected(receive, on_half_closed=self._queue.ping)
        self._give_up()

    def _check(self) -> None:
        """Ping a silent stream, give up a stalled one, and come back when either may be due."""
        now = self._loop.time()
        if self._is_writing:
            due = self._progress_s + self._limits.send_timeout_s
            if now >= due:
                logger.warning(
                    "a stream's reader took nothing for %g s; given up", self._limits.send_timeout_s
                )
                self._give_up()
                return
        else:
            interval_s = self._limits.ping_interval_s or math.inf
            due = self._progress_s + interval_s
            if now >= due:
                self._queue.ping()
                due = now + interval_s
        # A write may begin meanwhile and stall: never sleep longer than that may take.
        self._timer = self._loop.call_at(min(due, now + self._limits.send_timeout_s), self._check)

    def _give_up(self) -> None:
        """End __call__ at its next await, wherever it is."""
        self._timer.cancel()
        if not self._is_given_up:
            self._is_given_up = True
            self._guard.reschedule(self._loop.time())


def _body(body: bytes, *, more_body: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more_body}
