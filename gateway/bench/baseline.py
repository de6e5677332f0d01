"""The least that an answer can cost on our HTTP server: an ASGI app without a gateway.

Streams one ready-made event to every client at a set rate, and answers short requests with bytes.
What the gateway takes beyond it is the gateway's. Started by `unisono bench gateway`.
"""

import asyncio
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from hypercorn.asyncio import serve
from starlette.types import Receive, Scope, Send

from backend.wire.control import ControlClosed, Stop
from backend.wire.local.child import ChildContext
from gateway import connection
from gateway.http_server import hypercorn_config

STREAM_HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]


@dataclass(frozen=True, slots=True)
class BaselineSpawn:
    """What the process is told at spawn.

    event: what a stream sends, framed. answer: the body of any other answer.
    times_file: gets the time of every round of events, CLOCK_MONOTONIC as msgpack, at the end.
    """

    event: bytes
    answer: bytes
    events_per_s: float
    times_file: Path


def baseline_main(context: ChildContext, spawn: BaselineSpawn, listener: socket.socket) -> None:
    """Entry point of the spawned process; returns when told to stop."""
    line = context.begin()
    app = BaselineApp(spawn)
    stop = asyncio.Event()

    def obey() -> None:
        try:
            while (packet := line.receive()) is not None:
                if isinstance(packet[0], Stop):
                    stop.set()
        except ControlClosed:
            stop.set()

    async def run() -> None:
        asyncio.get_running_loop().add_reader(line.fileno(), obey)
        connection.install(connection.Bounds())
        served: Any = app  # typed for Hypercorn's own protocol classes
        config = hypercorn_config([listener])
        await serve(served, config, shutdown_trigger=stop.wait, mode="asgi")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    spawn.times_file.write_bytes(msgspec.msgpack.encode(app.round_times_s))


class BaselineApp:
    """POST /stream is a stream without end, anything else a short answer."""

    def __init__(self, spawn: BaselineSpawn) -> None:
        self.round_times_s: list[float] = []
        self._spawn = spawn
        self._next_round: asyncio.Future[None] | None = None
        self._due_s = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body", False):
            pass
        if scope["path"] == "/stream":
            await self._stream(receive, send)
            return
        headers = [(b"content-length", str(len(self._spawn.answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._spawn.answer})

    async def _stream(self, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_disconnected(receive))
        await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        while not gone.done():
            await self._round()
            await send({"type": "http.response.body", "body": self._spawn.event, "more_body": True})

    async def _round(self) -> None:
        """Wait for the next round of events, one timer for all streams."""
        if self._next_round is None:
            loop = asyncio.get_running_loop()
            self._next_round = loop.create_future()
            self._due_s = max(self._due_s + 1 / self._spawn.events_per_s, loop.time())
            loop.call_at(self._due_s, self._begin_round)
        await self._next_round

    def _begin_round(self) -> None:
        assert self._next_round is not None
        self.round_times_s.append(time.monotonic())
        self._next_round.set_result(None)
        self._next_round = None


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
