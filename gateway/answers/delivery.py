"""The two ways to answer: everything at once, or as server-sent events while it comes.

Owns what happens around a Generation: refusals of the pool, clients that leave, Server-Timing. Must
not know what an answer looks like. Called by the endpoints that generate.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from gateway.answers.answer_stream import AnswerStream, StreamForm
from gateway.answers.choice import Choice
from gateway.answers.generation import Generation
from gateway.answers.parsers import AnswerParser
from gateway.answers.pooled_texts import PooledTexts
from gateway.answers.sse import EventQueue, EventStream
from gateway.answers.submission import Submission
from gateway.answers.whole_answer import Collector, WholeChoice, whole_choices
from gateway.errors import ApiError, engine_failed
from gateway.exchange_context import exchange_context
from gateway.pool.refusals import POISONOUS, Poisonous, PoolNotReady, QueueFull
from gateway.pool.submit_options import SubmitOptions
from gateway.requests.body import disconnected, json_response
from gateway.requests.parsed_request import ParsedRequest
from gateway.requests.texts import EncodedText
from gateway.schema.usage import Usage
from gateway.service import Service
from gateway.telemetry.exchange import Timings


class Answer(Protocol):
    """What the answer to one request looks like in a dialect."""

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> msgspec.Struct:
        """Return the body of an answer in one piece."""

    def stream(self) -> StreamForm:
        """Return what writes the events of a streamed answer."""


async def respond(
    http_request: Request,
    parsed: ParsedRequest[Any],
    choices: Sequence[Choice],
    answer: Answer,
    new_parser: Callable[[], AnswerParser] | None,
    *,
    is_streamed: bool,
) -> Response:
    """Generate the choices of a request and answer with them, streamed or in one piece.

    new_parser: see parsers.py.
    Raises ApiError and ClientDisconnect; nothing runs then.
    """
    service: Service = http_request.app.state.service
    context = exchange_context(http_request.scope)
    await wait_for_group(http_request, parsed.options)
    if is_streamed:
        form = answer.stream()
        queue = EventQueue(form.ping)
        sink = AnswerStream(form, queue, new_parser, context.request_id)
        generation = Generation(service.pool, sink, choices, parsed.options)
        sink.follow(generation)
        context.generation = generation
        start(generation)
        headers = {**parsed.headers, **server_timing(generation.timings)}
        return EventStream(queue, service.limits, generation.close, headers, form.media_type)
    collector = Collector(len(choices))
    generation = Generation(service.pool, collector, choices, parsed.options)
    context.generation = generation
    usage = await collect(generation, collector, http_request.receive)
    headers = {**parsed.headers, **server_timing(generation.timings)}
    wholes = whole_choices(choices, collector, new_parser)
    for whole in wholes:
        whole.timings = generation.timings
    body = answer.whole(wholes, usage)
    return json_response(body, headers=headers)


async def pool_texts(
    http_request: Request, parsed: ParsedRequest[Any], texts: Sequence[EncodedText]
) -> tuple[PooledTexts, dict[str, str]]:
    """Have texts pooled; return them, all with their vectors, and the headers of the answer.

    Raises ApiError and ClientDisconnect; nothing runs then.
    """
    service: Service = http_request.app.state.service
    await wait_for_group(http_request, parsed.options)
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


async def wait_for_group(http_request: Request, options: SubmitOptions) -> None:
    """Return when there is a group to ask, or when there is no more waiting for one.

    Before the head of an answer is sent, so that a refusal can still have its status.
    Raises ApiError, and ClientDisconnect if the client leaves meanwhile.
    """
    service: Service = http_request.app.state.service
    door = service.pool.door
    if not door.is_shut(options.group):
        return
    waiting = asyncio.ensure_future(door.wait(options.deadline, options.group))
    gone = asyncio.ensure_future(disconnected(http_request.receive))
    try:
        await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise ClientDisconnect
        waiting.result()
    except QueueFull as error:
        raise _queue_full(error) from None
    finally:
        waiting.cancel()
        gone.cancel()


def start(submission: Submission[Any]) -> None:
    """Submit everything, or raise ApiError with nothing submitted."""
    try:
        submission.start()
    except PoolNotReady as error:
        message = "No group of this model's ranks takes work now. Try again in a moment."
        retry_after_s = error.retry_after_s
        raise ApiError(503, message, code="not_ready", retry_after_s=retry_after_s) from None
    except QueueFull as error:
        raise _queue_full(error) from None
    except Poisonous:
        raise engine_failed(POISONOUS, is_final=True) from None


def _queue_full(error: QueueFull) -> ApiError:
    message = "Too many requests are waiting. Try again in a moment."
    return ApiError(429, message, code="queue_full", retry_after_s=error.retry_after_s)


async def collect(generation: Generation, collector: Collector, receive: Receive) -> Usage:
    """Start a generation and wait until its sink has all of it; return its token counts.

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
    return collector.usage


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
