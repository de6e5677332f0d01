"""A connection ends with its client; Hypercorn runs on the loopback interface, on any port."""

import asyncio
import contextlib

import pytest
from hypercorn.asyncio import run, tcp_server
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from hypercorn.utils import wrap_app

from gateway.connection import Bounds, Connection, install
from gateway.http1 import Http1

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
KEEP_ALIVE_SECONDS = 600
ENDED_SECONDS = 60.0


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test ends."""
    monkeypatch.setattr(run, "TCPServer", run.TCPServer)
    monkeypatch.setattr(tcp_server, "ProtocolWrapper", tcp_server.ProtocolWrapper)
    install(Bounds())


async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok", "more_body": False})


async def visit(num_requests: int) -> None:
    """Send requests on one connection, leave, and wait for the connection's end."""
    ended = asyncio.Event()
    config = Config()
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")
    context = WorkerContext(None)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        await Connection(Bounds(), wrapped, loop, config, context, {}, reader, writer)
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(num_requests):
            writer.write(REQUEST)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        assert not ended.is_set()
        writer.close()
        async with asyncio.timeout(ENDED_SECONDS):
            await ended.wait()


async def cut_off() -> None:
    """Cancel what serves a connection, as Hypercorn does when it stops."""
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    wrapped = wrap_app(app, Config().wsgi_max_body_size, "asgi")
    context, tasks = WorkerContext(None), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await Connection(Bounds(), wrapped, loop, Config(), context, {}, reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(REQUEST)
        await reader.readuntil(b"ok")
        tasks[0].cancel()
        async with asyncio.timeout(ENDED_SECONDS):
            with contextlib.suppress(ConnectionError):
                await reader.read()
            await asyncio.wait(tasks)
        writer.close()
    assert not complaints


def test_connection_ends_when_its_client_asks_for_nothing() -> None:
    asyncio.run(visit(0))


def test_connection_ends_when_its_client_leaves_in_between() -> None:
    """It stayed half closed for keep_alive_timeout; clients that bring one request each used up
    the descriptors of a worker."""
    asyncio.run(visit(2))


def test_connection_cut_off_at_the_end_is_not_logged() -> None:
    """A stream still open when the time to drain was up left a traceback."""
    asyncio.run(cut_off())


def test_server_uses_it_once_installed() -> None:
    assert run.TCPServer.func is Connection
    assert tcp_server.ProtocolWrapper is Http1
