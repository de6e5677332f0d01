"""A dialect: how a request for text is said, and how it is answered.

Two translations, in and out, and nothing else: read() makes a TextRequest of a body, and an Answer
writes what came of it, whole or as a stream. One file a dialect; the endpoints hand it to answer().
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from backend.wire.sampling import SamplingParams
from gateway.answers.choice import make_choices
from gateway.answers.delivery import Answer, respond
from gateway.answers.held_calls import with_held_calls
from gateway.answers.held_thoughts import with_held_thought
from gateway.answers.parsers import (
    Thinking,
    count_thoughts,
    parsers_for,
    splitting_notation,
    thinking_of,
)
from gateway.errors import ApiError, reworded, reworded_names
from gateway.requests.encoded_request import encode_request
from gateway.requests.grammars import NOT_ENFORCED_HEADER
from gateway.requests.parameters import sampling_params, seeded_params
from gateway.requests.parsed_request import ParsedRequest, RequestFields, parse_request
from gateway.requests.text_request import TextRequest
from gateway.service import Service

R = TypeVar("R", bound=RequestFields)


@dataclass(frozen=True, slots=True)
class Dialect(Generic[R]):
    """decoder: of the body, whose check() finds what its type cannot say.

    read: says what a checked body means. answer: writes the answer to it; made anew for each.
    Both may raise ApiError. words: how a refusal of what was read says the names of our fields.
    """

    decoder: msgspec.json.Decoder[R]
    read: Callable[[R], TextRequest]
    answer: Callable[[R, Service], Answer]
    words: Mapping[str, str] = field(default_factory=dict)


async def answer(http_request: Request, dialect: Dialect[R]) -> Response:
    """Answer a request for text, streamed or in one piece."""
    parsed = await parse_request(http_request, dialect.decoder)
    return await answer_parsed(http_request, dialect, parsed)


async def answer_parsed(
    http_request: Request, dialect: Dialect[R], parsed: ParsedRequest[R]
) -> Response:
    """Answer a request for text whose body was read."""
    service: Service = http_request.app.state.service
    request = dialect.read(parsed.request)
    try:
        prompts, max_tokens = await encode_request(request, service, parsed.options.cache_salt)
        notation = splitting_notation(request, service)
        thinking = thinking_of(request, prompts[0].token_ids, notation, service)
        shared = await _params(request, max_tokens, service, thinking, parsed.headers)
    except ApiError as error:
        raise reworded(error, dialect.words) from None
    if names := parsed.headers.get(NOT_ENFORCED_HEADER):
        parsed.headers[NOT_ENFORCED_HEADER] = reworded_names(names, dialect.words)
    seed, num_candidates = request.fields.seed, request.num_candidates
    params = [seeded_params(shared, seed, num_candidates) for _ in prompts]
    shown_ids = notation.shown_ids if notation else frozenset()
    choices = make_choices(prompts, params, request.fields, service.tokenizer, shown_ids)
    is_thinking = thinking is Thinking.OPEN
    count_thoughts(choices, notation, is_thinking=is_thinking)
    new_parser = parsers_for(request, notation, is_thinking=is_thinking)
    form = dialect.answer(parsed.request, service)
    return await respond(
        http_request,
        parsed,
        choices,
        form,
        new_parser,
        is_streamed=request.is_streamed,
    )


async def _params(
    request: TextRequest,
    max_tokens: int,
    service: Service,
    thinking: Thinking,
    headers: dict[str, str],
) -> SamplingParams:
    """Return what all sequences of a request share. headers: of the answer, to be added to."""
    logprobs = request.logprobs
    params = await sampling_params(
        request.fields,
        service,
        max_tokens=max_tokens,
        logprobs=0 if request.is_ranked and logprobs is None else logprobs,
        prompt_logprobs=request.prompt_logprobs,
        headers=headers,
    )
    tools, notation = request.tools, service.notation
    budget = request.max_thought_tokens
    if budget is None:
        budget = service.max_thought_tokens or None
    if tools is not None:
        params = await with_held_calls(
            params, tools, notation, service.grammar_validator, headers, budget
        )
        if notation.form.messages is not None:
            return params  # its thoughts are messages, too
    if thinking is Thinking.NONE:
        return params
    return await with_held_thought(
        params,
        notation,
        service,
        is_thinking=thinking is Thinking.OPEN,
        max_tokens=budget,
        tools=tools,
    )
