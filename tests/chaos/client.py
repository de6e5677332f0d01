"""One client of a chaos run: it sends a request, reads it in its own way, and tells how it ended.

On a bare socket, so that a cut connection is told from an answer that ends. Judges nothing.
"""

import asyncio
import contextlib
import enum
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.catalog import Answer


class End(enum.Enum):
    """How an exchange ended, as the client saw it."""

    COMPLETE = "complete"  # [DONE]
    ERROR = "error event"
    REFUSED = "refused"  # an answer that is no stream
    CUT = "connection cut"
    LEFT = "the client left"
    HUNG = "hung"
    BROKEN = "no answer of this protocol"


@dataclass(frozen=True)
class Manner:
    """How a client behaves. pause_s: before each read. leaves_after: events it waits for.

    timeout_s: the request's own; patience_s: what the client waits at most.
    """

    pause_s: float = 0.0
    leaves_after: int | None = None
    timeout_s: float = 60.0
    patience_s: float = 180.0


@dataclass
class Outcome:
    """What became of a request. error: its body or event."""

    number: int
    manner: Manner
    started_s: float
    ended_s: float = 0.0
    end: End = End.HUNG
    status: int = 0
    error: dict[str, Any] = field(default_factory=dict)
    answer: Answer = field(default_factory=lambda: Answer((), (), ()))


async def ask(port: int, number: int, body: dict[str, Any], manner: Manner) -> Outcome:
    """Send one request of the catalog and read what comes."""
    outcome = Outcome(number, manner, time.monotonic())
    reading = _Reading(outcome, body.get("n", 1))
    try:
        async with asyncio.timeout(manner.patience_s):
            await reading.run(port, {**body, "stream": True, "timeout": manner.timeout_s})
    except TimeoutError:
        outcome.end = End.HUNG
    except (OSError, asyncio.IncompleteReadError):
        if outcome.end is End.HUNG:  # an error event may be followed by anything
            outcome.end = End.CUT
    except (AssertionError, ValueError, LookupError) as error:
        outcome.end, outcome.error = End.BROKEN, {"code": repr(error)}
    outcome.ended_s = time.monotonic()
    outcome.answer = reading.answer()
    return outcome


class _Reading:
    def __init__(self, outcome: Outcome, num_choices: int) -> None:
        self._outcome = outcome
        self._ids: list[list[int]] = [[] for _ in range(num_choices)]
        self._texts = [""] * num_choices
        self._reasons: list[str | None] = [None] * num_choices

    def answer(self) -> Answer:
        return Answer(tuple(map(tuple, self._ids)), tuple(self._texts), tuple(self._reasons))

    async def run(self, port: int, body: dict[str, Any]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            payload = json.dumps(body).encode()
            head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
            writer.write(head.encode() + payload)
            await writer.drain()
            await self._read(reader)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        outcome, manner = self._outcome, self._outcome.manner
        outcome.status = int((await reader.readuntil(b"\r\n")).split()[1])
        headers = (await reader.readuntil(b"\r\n\r\n")).lower()
        if outcome.status != 200:
            rest = await reader.read()
            with contextlib.suppress(ValueError):
                outcome.error = json.loads(rest)["error"]
            outcome.end = End.REFUSED
            return
        assert b"transfer-encoding: chunked" in headers
        num_events = 0
        async for event in _events(reader):
            if event == b"data: [DONE]":
                outcome.end = End.COMPLETE
                continue
            assert outcome.end is End.HUNG, f"something follows the end: {event!r}"
            if event.startswith(b"data: "):
                self._take(json.loads(event.removeprefix(b"data: ")))
            num_events += 1
            if manner.leaves_after is not None and num_events >= manner.leaves_after:
                outcome.end = End.LEFT
                return
            if manner.pause_s:
                await asyncio.sleep(manner.pause_s)
        if outcome.end is End.HUNG:
            outcome.end = End.CUT  # the body ended well, but without its last event

    def _take(self, chunk: dict[str, Any]) -> None:
        if "error" in chunk:
            self._outcome.error, self._outcome.end = chunk["error"], End.ERROR
            return
        for choice in chunk["choices"]:
            index = choice["index"]
            assert self._reasons[index] is None, "a choice goes on after its end"
            self._ids[index] += choice.get("token_ids") or []
            self._texts[index] += choice["text"]
            self._reasons[index] = choice["finish_reason"]


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the events of a chunked body. Raises IncompleteReadError if it is cut off."""
    rest = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        data = await reader.readexactly(size + 2)
        *events, rest = (rest + data[:-2]).split(b"\n\n")
        for event in events:
            yield event
    await reader.readuntil(b"\r\n")
