"""POST /v1/completions: from a body to submitted sequences, and their text back.

Owns the order of checks (cheap ones first, all before the first byte of an answer) and the two
ways to answer, streamed and whole. Must not know how prompts become tokens (prompt.py) nor how
tokens become text (completion.py).
"""

import asyncio
import secrets
import time
from collections.abc import Sequence

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from gateway.body import decode_body, disconnected, json_response, read_body
from gateway.completion import Choice, Generation, StopMatcher
from gateway.errors import ApiError, model_not_found
from gateway.prompt import encode_prompts
from gateway.replicas import PoolNotReady, QueueFull
from gateway.schema import (
    Completion,
    CompletionChoice,
    CompletionRequest,
    Usage,
    sampling_params,
)
from gateway.service import Service
from gateway.sse import ChunkTemplate, EventQueue, EventStream, event

_decoder = msgspec.json.Decoder(CompletionRequest)


async def create_completion(request: Request) -> Response:
    """Complete every prompt n times, streamed or in one answer."""
    service: Service = request.app.state.service
    if service.pool.status().draining:
        raise ApiError(503, "The server is shutting down.", code="shutting_down", retry_after_s=5)
    body = await read_body(request, service.limits)
    asked = decode_body(body, _decoder, service.limits.max_json_depth)
    asked.check()
    if asked.model not in service.model_names:
        raise model_not_found(asked.model)
    prompts = await encode_prompts(asked, service)
    stop = asked.stop_strings
    choices = [
        Choice(index, prompt, params, service.tokenizer.detokenizer(prompt.token_ids), matcher)
        for index, (prompt, params, matcher) in enumerate(
            (prompt, params, StopMatcher(stop))
            for prompt in prompts
            for params in sampling_params(asked)
        )
    ]
    head = Completion(
        id=f"cmpl-{secrets.token_hex(16)}",
        created=int(time.time()),
        model=asked.model,
        system_fingerprint=service.system_fingerprint,
        choices=[],
    )
    if asked.stream:
        if asked.include_usage:
            head = msgspec.structs.replace(head, usage=None)
        return _stream(head, choices, service)
    return await _answer(head, choices, service, request.receive)


def _start(generation: Generation) -> None:
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


class _Chunks:
    """The sink of a streamed answer: text becomes framed chunks at once."""

    def __init__(self, head: Completion, queue: EventQueue) -> None:
        self._head = head
        self._queue = queue
        self._templates: dict[int, ChunkTemplate] = {}  # by choice

    def write(self, choice: Choice, text: str) -> None:
        if choice.finish_reason is not None:
            self._put([CompletionChoice(text, choice.index, None, choice.finish_reason.value)])
            return
        template = self._templates.get(choice.index)
        if template is None:
            chunk = self._chunk([CompletionChoice("", choice.index)])
            template = self._templates[choice.index] = ChunkTemplate(chunk)
        self._queue.put(template.event(text))

    def finish(self, usage: Usage) -> None:
        if self._head.usage is None:  # asked for: null so far
            self._head = msgspec.structs.replace(self._head, usage=usage)
            self._put([])
        self._queue.end()

    def fail(self, message: str) -> None:
        self._queue.fail(_engine_error(message).body())

    def _put(self, choices: list[CompletionChoice]) -> None:
        self._queue.put(event(msgspec.json.encode(self._chunk(choices))))

    def _chunk(self, choices: list[CompletionChoice]) -> Completion:
        return msgspec.structs.replace(self._head, choices=choices)


def _stream(head: Completion, choices: Sequence[Choice], service: Service) -> Response:
    queue = EventQueue()
    generation = Generation(service.pool, _Chunks(head, queue), choices)
    _start(generation)
    return EventStream(queue, service.limits, on_close=generation.close)


class _Whole:
    """The sink of an answer in one piece. `done` is set when `usage` or `error` is."""

    def __init__(self, num_choices: int) -> None:
        self.texts: list[list[str]] = [[] for _ in range(num_choices)]
        self.usage: Usage | None = None
        self.error: ApiError | None = None
        self.done = asyncio.Event()

    def write(self, choice: Choice, text: str) -> None:
        self.texts[choice.index].append(text)

    def finish(self, usage: Usage) -> None:
        self.usage = usage
        self.done.set()

    def fail(self, message: str) -> None:
        self.error = _engine_error(message)
        self.done.set()


async def _answer(
    head: Completion, choices: Sequence[Choice], service: Service, receive: Receive
) -> Response:
    whole = _Whole(len(choices))
    generation = Generation(service.pool, whole, choices)
    _start(generation)
    finished = asyncio.ensure_future(whole.done.wait())
    gone = asyncio.ensure_future(disconnected(receive))
    try:
        await asyncio.wait((finished, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        finished.cancel()
        gone.cancel()
        generation.close()
    if not whole.done.is_set():
        raise ClientDisconnect
    if whole.error is not None:
        raise whole.error
    answered = [
        CompletionChoice(
            "".join(whole.texts[choice.index]),
            choice.index,
            finish_reason=choice.finish_reason and choice.finish_reason.value,
        )
        for choice in choices
    ]
    usage = whole.usage
    return json_response(msgspec.structs.replace(head, choices=answered, usage=usage))


def _engine_error(message: str) -> ApiError:
    return ApiError(500, message, code="engine_error")
