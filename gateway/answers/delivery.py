"""The two ways to answer: everything at once, or as server-sent events while it comes.

Owns what happens around a Generation: refusals of the pool, clients that leave, Server-Timing. Must
not know what an answer looks like. Called by the endpoints that generate.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from gateway.answers.choice import Choice, Token
from gateway.answers.generation import Generation, Sink
from gateway.answers.pooled_texts import PooledTexts
from gateway.answers.sse import EventQueue, EventStream
from gateway.errors import ApiError, engine_failed
from gateway.exchange_context import exchange_context
from gateway.pool.refusals import POISONOUS, Poisonous, PoolNotReady, QueueFull
from gateway.requests.body import disconnected, json_response
from gateway.requests.parsed_request import ParsedRequest
from gateway.requests.texts import EncodedText
from gateway.schema.usage import Usage
from gateway.service import Limits, Service
from gateway.telemetry.exchange import Timings


class Collector:
    """The sink of an answer in one piece: texts and tokens by choice.

    done: nothing more comes; with neither usage nor error, because nobody waits for it.
    """

    def __init__(self, num_choices: int) -> None:
        self.texts: list[list[str]] = [[] for _ in range(num_choices)]
        self.tokens: list[list[Token]] = [[] for _ in range(num_choices)]
        self.usage: Usage | None = None
        self.error: ApiError | None = None
        self.done = asyncio.Event()

    def write(self, choice: Choice, text: str, tokens: Sequence[Token]) -> None:
        """Keep it."""
        self.texts[choice.index].append(text)
        if tokens:
            self.tokens[choice.index].extend(tokens)

    def finish(self, usage: Usage) -> None:
        """All is there."""
        self.usage = usage
        self.done.set()

    def fail(self, error: ApiError) -> None:
        """Nothing more comes."""
        self.error = error
        self.done.set()


class Chunks(Sink, Protocol):
    """The sink of a streamed answer, which feeds an EventQueue.

    generation: whose text it takes; set before the first write.
    """

    generation: Generation


async def respond(
    http_request: Request,
    parsed: ParsedRequest[Any],
    choices: Sequence[Choice],
    *,
    chunks: Callable[[EventQueue], Chunks],
    response: Callable[[Collector], msgspec.Struct],
) -> Response:
    """Generate the choices of a request and answer with them, the way it asked for.

    chunks: makes the sink of a stream; response: makes the body of an answer in one piece.
    Raises ApiError and ClientDisconnect; nothing runs then.
    """
    service: Service = http_request.app.state.service
    context = exchange_context(http_request.scope)
    if parsed.request.stream:
        queue = EventQueue()
        sink = chunks(queue)
        sink.generation = Generation(service.pool, sink, choices, parsed.options)
        context.generation = sink.generation
        return stream(sink.generation, queue, service.limits, parsed.headers)
    collector = Collector(len(choices))
    generation = Generation(service.pool, collector, choices, parsed.options)
    context.generation = generation
    await collect(generation, collector, http_request.receive)
    headers = {**parsed.headers, **server_timing(generation.timings)}
    return json_response(response(collector), headers=headers)


async def pool_texts(
    http_request: Request, parsed: ParsedRequest[Any], texts: Sequence[EncodedText]
) -> tuple[PooledTexts, dict[str, str]]:
    """Have texts pooled; return them, all with their vectors, and the headers of the answer.

    Raises ApiError and ClientDisconnect; nothing runs then.
    """
    service: Service = http_request.app.state.service
    pooled = PooledTexts(service.pool, texts, parsed.options)
    exchange_context(http_request.scope).generation = pooled
    start(pooled)
    gone = asyncio.ensure_future(disconnected(http_request.receive))
    gone.add_done_callback(lambda gone: pooled.done.set())
    try:
        await pooled.done.wait()
    finally:
        gone.cancel()
        pooled.close()
    if pooled.error is not None:
        raise pooled.error
    if not pooled.timings.finished:
        raise ClientDisconnect
    return pooled, {**parsed.headers, **server_timing(pooled.timings)}


def start(generation: Generation | PooledTexts) -> None:
    """Submit everything, or raise ApiError with nothing submitted."""
    try:
        generation.start()
    except PoolNotReady as error:
        message = "No replica of the model is ready yet. Try again in a moment."
        retry_after_s = error.retry_after_s
        raise ApiError(503, message, code="not_ready", retry_after_s=retry_after_s) from None
    except QueueFull as error:
        message = "Too many requests are waiting. Try again in a moment."
        retry_after_s = error.retry_after_s
        raise ApiError(429, message, code="queue_full", retry_after_s=retry_after_s) from None
    except Poisonous:
        raise engine_failed(POISONOUS, is_final=True) from None


async def collect(generation: Generation, collector: Collector, receive: Receive) -> None:
    """Start a generation and wait until its sink has all of it.

    Raises ApiError if it failed and ClientDisconnect if nobody waits any more; nothing runs then.
    """
    start(generation)
    gone = asyncio.ensure_future(disconnected(receive))
    gone.add_done_callback(lambda gone: collector.done.set())
    try:
        await collector.done.wait()
    finally:
        gone.cancel()
        generation.close()
    if collector.error is not None:
        raise collector.error
    if collector.usage is None:
        raise ClientDisconnect


def stream(
    generation: Generation, queue: EventQueue, limits: Limits, headers: Mapping[str, str]
) -> Response:
    """Start a generation whose sink feeds `queue`, and answer with the events of that."""
    start(generation)
    headers = {**headers, **server_timing(generation.timings)}
    return EventStream(queue, limits, generation.close, headers)


def server_timing(timings: Timings) -> dict[str, str]:
    """Return the header that says where the time of a request went so far, in milliseconds.

    queue: until the first sequence went to a group; prefill: from there to the first token of any;
    decode: from there to the last of all. The head of a stream goes out before the first token, so
    it can have the queue at most; when the others are over is what its events show.
    """
    phases = []
    if timings.sent:
        phases.append(("queue", timings.sent - timings.submitted))
    if timings.finished:
        begun = timings.sent or timings.submitted
        first = timings.first_token or timings.finished
        phases.append(("prefill", first - begun))
        phases.append(("decode", timings.finished - first))
    if not phases:
        return {}
    return {"server-timing": ", ".join(f"{name};dur={s * 1000:.1f}" for name, s in phases)}
