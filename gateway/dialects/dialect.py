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
from gateway.answers.forced_calls import calling
from gateway.answers.parsers import parsers_for
from gateway.errors import ApiError, reworded
from gateway.requests.encoded_request import encode_request
from gateway.requests.parameters import sampling_params, seeded_params
from gateway.requests.parsed_request import RequestFields, parse_request
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
    service: Service = http_request.app.state.service
    parsed = await parse_request(http_request, dialect.decoder)
    request = dialect.read(parsed.request)
    try:
        prompts, max_tokens = await encode_request(request, service)
        shared = await _params(request, max_tokens, service, parsed.headers)
    except ApiError as error:
        raise reworded(error, dialect.words) from None
    seed, num_candidates = request.fields.seed, request.num_candidates
    params = [seeded_params(shared, seed, num_candidates) for _ in prompts]
    choices = make_choices(prompts, params, request.fields, service.tokenizer)
    form = dialect.answer(parsed.request, service)
    return await respond(
        http_request,
        parsed,
        choices,
        form,
        parsers_for(request),
        is_streamed=request.is_streamed,
    )


async def _params(
    request: TextRequest, max_tokens: int, service: Service, headers: dict[str, str]
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
    if request.tools is not None and request.tools.is_required:
        return await calling(params, request.tools, service.grammar_validator, headers)
    return params
