"""Pieces of a body that pass Hypercorn by, between a head and an end that do not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.utils import wrap_app
from starlette.types import Receive, Scope, Send

from gateway.answers.chunk_writer import EXTENSION, MAX_BUFFERED_BYTES, offering_chunk_writers
from gateway.answers.sse import EventQueue, EventStream, event
from gateway.connection import Bounds, Connection, install
from gateway.service import Limits

POST = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@asynccontextmanager
async def visiting(app: App) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve `app` with Hypercorn on the loopback interface and connect to it."""
    install(Bounds())  # its protocol goes with it
    wrapped = wrap_app(offering_chunk_writers(app), 0, "asgi")
    context, config = WorkerContext(None), Config()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        await Connection(Bounds(), wrapped, loop, config, context, {}, reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()


async def body_of(reader: asyncio.StreamReader) -> bytes:
    """Read one chunked answer to its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and b"transfer-encoding: chunked" in head.lower()
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    assert await reader.readline() == b"\r\n"
    return body


def streaming(feed: Callable[[EventQueue], Awaitable[None]]) -> App:
    """Return an app that streams what `feed` puts into a queue."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body", False):
            pass
        queue = EventQueue()
        feeding = asyncio.create_task(_fed(feed, queue))
        await EventStream(queue, Limits(), lambda: None)(scope, receive, send)
        await feeding

    return app


async def _fed(feed: Callable[[EventQueue], Awaitable[None]], queue: EventQueue) -> None:
    await feed(queue)
    queue.end()


def numbered(count: int, size: int = 0) -> list[bytes]:
    return [event(b"%d" % number + b"x" * size) for number in range(count)]


async def test_pieces_come_in_order_and_the_connection_is_used_again() -> None:
    async def feed(queue: EventQueue) -> None:
        for number, data in enumerate(numbered(100)):
            queue.put(data)
            if number % 3 == 0:
                await asyncio.sleep(0)

    async with visiting(streaming(feed)) as (reader, writer):
        for _ in range(3):
            writer.write(POST)
            assert await body_of(reader) == b"".join([*numbered(100), b"data: [DONE]\n\n"])


async def test_reader_slower_than_the_events_gets_all_of_them() -> None:
    data = numbered(1000, size=MAX_BUFFERED_BYTES)  # more than sockets hold

    is_fed = asyncio.Event()

    async def feed(queue: EventQueue) -> None:
        for piece in data:
            queue.put(piece)
            await asyncio.sleep(0)
        is_fed.set()

    async with visiting(streaming(feed)) as (reader, writer):
        writer.write(POST)
        await is_fed.wait()  # nothing has been read so far
        assert await body_of(reader) == b"".join([*data, b"data: [DONE]\n\n"])


async def test_client_that_leaves_ends_the_stream() -> None:
    is_closed = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body", False):
            pass
        queue = EventQueue()
        queue.put(event(b"1"))
        await EventStream(queue, Limits(), is_closed.set)(scope, receive, send)
        assert not scope["extensions"][EXTENSION].write(b"too late")

    async with visiting(app) as (reader, writer):
        writer.write(POST)
        await reader.readuntil(b"data: 1")
        writer.close()
        async with asyncio.timeout(60):
            await is_closed.wait()


async def test_who_is_no_http_1_1_client_is_offered_none() -> None:
    """An HTTP/1.0 client is sent no chunks: a piece framed as one would be a part of its body."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert EXTENSION not in scope["extensions"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok", "more_body": False})

    async with visiting(app) as (reader, writer):
        writer.write(POST.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert (await reader.read()).endswith(b"\r\n\r\nok")
