"""Who closes the sending side after a request is answered still; who left is not waited for.

Hypercorn runs on the loopback interface, on any port, with both kinds of event loop.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop
from hypercorn.asyncio import tcp_server
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.utils import wrap_app

from gateway.connection import HALF_CLOSED, Bounds, Connection
from gateway.http1 import Http1
from gateway.requests.body import disconnected

LIMIT_S = 60.0
BODY = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi"
LENGTH = [(b"content-length", b"2")]

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a coroutine on an event loop, with Hypercorn speaking as ours does."""
    monkeypatch.setattr(tcp_server, "ProtocolWrapper", Http1)

    def run(main: Coroutine[Any, Any, None]) -> None:
        async def limited() -> None:
            async with asyncio.timeout(LIMIT_S):
                await main

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(limited())

    return run


class App:
    """Answers when told to; with is_stream, in chunks, the first of them empty of meaning.

    left: the client has; asked: a request is there, and half_closed: so is its end.
    """

    def __init__(self, *, is_stream: bool = False) -> None:
        self._is_stream = is_stream
        self.asked, self.half_closed = asyncio.Event(), asyncio.Event()
        self.go, self.left = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.disconnect":
            self.left.set()
            return
        if self._is_stream:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        self.asked.set()
        watcher = asyncio.ensure_future(disconnected(receive, self.half_closed.set))
        going = asyncio.ensure_future(self.go.wait())
        ping = asyncio.ensure_future(self._ping(send))
        await asyncio.wait((watcher, going), return_when=asyncio.FIRST_COMPLETED)
        ping.cancel()
        if watcher.done():
            self.left.set()
            return
        watcher.cancel()
        if not self._is_stream:
            await send({"type": "http.response.start", "status": 200, "headers": LENGTH})
        await send({"type": "http.response.body", "body": b"ok", "more_body": False})

    async def _ping(self, send: Any) -> None:
        await self.half_closed.wait()
        await send({"type": "http.response.body", "body": b": ping", "more_body": True})


@contextlib.asynccontextmanager
async def serving(app: Callable[..., Awaitable[None]]) -> AsyncIterator[tuple[str, int]]:
    """The address of a server; every connection of it has ended when the context does."""
    loop = asyncio.get_running_loop()
    wrapped, context = wrap_app(app, 1 << 20, "asgi"), WorkerContext(None)
    ended: list[asyncio.Future[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(loop.create_future())
        await Connection(Bounds(), wrapped, loop, Config(), context, {}, reader, writer)
        ended[-1].set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()
        await asyncio.gather(*ended)


async def served_after_half_close(*, is_stream: bool, request: bytes = BODY) -> None:
    app = App(is_stream=is_stream)
    async with serving(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request)
        if is_stream:  # it has a head by then
            await app.asked.wait()
        writer.write_eof()
        await (app.half_closed if is_stream else app.asked).wait()
        app.go.set()
        received = await reader.read()
        assert b" 200 " in received
        assert received.rstrip().endswith(b"2\r\nok\r\n0" if is_stream else b"\r\n\r\nok")
        writer.close()
    assert not app.left.is_set()


def test_whole_answer_reaches_a_half_closed_client(run: Run) -> None:
    run(served_after_half_close(is_stream=False))


def test_stream_reaches_a_half_closed_client(run: Run) -> None:
    """It got the head and nothing more."""
    run(served_after_half_close(is_stream=True))


@pytest.mark.parametrize("line", [b"Connection: close\r\n", b"Expect: 100-continue\r\n"])
def test_half_closed_client_that_wants_more_is_served(run: Run, line: bytes) -> None:
    request = BODY.replace(b"Content-Length", line + b"Content-Length")
    run(served_after_half_close(is_stream=False, request=request))


def test_request_of_http_1_0_is_served_half_closed(run: Run) -> None:
    run(served_after_half_close(is_stream=False, request=BODY.replace(b"HTTP/1.1", b"HTTP/1.0")))


async def leave(*, is_stream: bool, is_late: bool) -> None:
    app = App(is_stream=is_stream)
    async with serving(app) as address:
        client = socket.create_connection(address)
        client.sendall(BODY)
        if is_late:
            await app.asked.wait()
        client.close()
        await app.left.wait()


@pytest.mark.parametrize("is_late", [False, True])
def test_client_that_left_is_not_waited_for(run: Run, is_late: bool) -> None:
    run(leave(is_stream=False, is_late=is_late))


def test_streams_client_that_left_is_not_waited_for(run: Run) -> None:
    """Nothing has been written since: only the ping brings it to light."""
    run(leave(is_stream=True, is_late=True))


async def half_close_inside_the_body() -> None:
    app = App()
    async with serving(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(BODY[:-1])
        writer.write_eof()
        assert b" 200 " not in await reader.read()
        writer.close()
    assert app.left.is_set()


def test_request_without_its_end_is_not_served(run: Run) -> None:
    run(half_close_inside_the_body())


def test_message_is_no_disconnect(run: Run) -> None:
    async def main() -> None:
        messages = iter(["http.request", HALF_CLOSED, "http.disconnect"])
        told: list[str] = []

        async def receive() -> dict[str, str]:
            return {"type": next(messages)}

        await disconnected(receive, lambda: told.append("half closed"))
        assert told == ["half closed"]

    run(main())
