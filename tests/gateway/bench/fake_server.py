"""A server of fixed answers, for what loads servers."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvloop

from gateway.bench.streamed_request import Target

T = TypeVar("T")
Split = Callable[[bytes], Iterable[bytes]]


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def text_event(text: str, finish_reason: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "text": text, "finish_reason": finish_reason}]})


@dataclass
class FakeServer:
    """An OpenAI-compatible server of fixed answers; counts a word as a token, and one for BOS.

    tokens_per_event: how many tokens one event carries; split: how the stream is cut into writes.
    is_chunked: Transfer-Encoding, else the stream ends with the connection. newline: the separator.
    fail: replaces the answer to a completion. max_open: the most streams that were open at once.
    """

    tokens_per_event: int = 1
    split: Split = lambda data: [data]
    is_chunked: bool = True
    newline: bytes = b"\n"
    limit: int = 10**6
    sends_usage: bool = True
    fail: bytes = b""
    counts_tokens: bool = False
    bodies: list[dict[str, Any]] = field(default_factory=list)
    num_open: int = 0
    max_open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        body = await reader.readexactly(length)
        if head.startswith(b"GET /v1/models "):
            writer.write(answer(b'{"data": [{"id": "fake"}]}'))
        elif head.startswith(b"POST /tokenize ") and self.counts_tokens:
            count = len(json.loads(body)["prompt"].split())
            writer.write(answer(json.dumps({"count": count}).encode()))
        elif head.startswith(b"POST /v1/completions "):
            self.bodies.append(json.loads(body))
            await self.complete(self.bodies[-1], writer)
        else:
            writer.write(answer(b'{"error": {"message": "no such path"}}', "404 Not Found"))

    async def complete(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if self.fail:
            writer.write(self.fail)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n" if self.is_chunked else b"\r\n")
        self.num_open += 1
        self.max_open = max(self.max_open, self.num_open)
        pieces = list(self.split(b"".join(self.stream(body))))
        for number, piece in enumerate(pieces, start=1):
            # Counted down first: the client goes on as soon as it has the last piece.
            self.num_open -= number == len(pieces)
            # One trip round the loop each, so that pieces arrive apart.
            writer.write(chunk(piece) if self.is_chunked else piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n" if self.is_chunked else b"")

    def stream(self, body: dict[str, Any]) -> Iterable[bytes]:
        prompt = body["prompt"]
        num_prompt = len(prompt.split()) + 1 if isinstance(prompt, str) else len(prompt)
        num_output = min(body["max_tokens"], self.limit)
        events = [b": ping\n\n", text_event("")]
        for start in range(0, num_output, self.tokens_per_event):
            events.append(text_event('"a" ' * min(self.tokens_per_event, num_output - start)))
        events.append(text_event("", "length" if num_output == body["max_tokens"] else "stop"))
        if self.sends_usage and body["stream_options"]["include_usage"]:
            usage = {"prompt_tokens": num_prompt, "completion_tokens": num_output}
            events.append(event({"choices": [], "usage": usage}))
        events.append(b"data: [DONE]\n\n")
        return [part.replace(b"\n", self.newline) for part in events]


def answer(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def against(server: FakeServer, use: Callable[[Target], Awaitable[T]]) -> T:
    """Run `use` with the address of `server`, listening on a port of the system's choice."""

    connections: list[asyncio.Task[Any]] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.ensure_future(answer_once(reader, writer)))

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The client resets the connection as soon as it has seen the end.
        with contextlib.suppress(ConnectionError):
            await server.serve(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def main() -> T:
        listener = await asyncio.start_server(connected, "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            result = await use(Target("127.0.0.1", port))
            await asyncio.gather(*connections)
            return result

    # On the loop of the command itself: uvloop's transports are not asyncio's.
    return uvloop.run(main())


def every(size: int) -> Split:
    return lambda data: (data[i : i + size] for i in range(0, len(data), size))
