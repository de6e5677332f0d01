"""POST /v1/completions: from a body to submitted sequences, and their text back.

Must not know how prompts become tokens (prompt.py), how fields become parameters (parameters.py)
nor what an answer looks like (completion_answer.py).
"""

import secrets
import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers.choice import make_choices
from gateway.answers.completion_answer import CompletionChunks, CompletionFormatter
from gateway.answers.delivery import respond
from gateway.requests.parameters import sampling_params, seeded_params
from gateway.requests.parsed_request import parse_request
from gateway.requests.prompt import encode_prompts
from gateway.schema.completions import Completion, CompletionRequest
from gateway.service import Service

_decoder = msgspec.json.Decoder(CompletionRequest)


async def create_completion(http_request: Request) -> Response:
    """Complete every prompt n times, streamed or in one answer."""
    service: Service = http_request.app.state.service
    parsed = await parse_request(http_request, _decoder)
    request = parsed.request
    prompts = await encode_prompts(request, service)
    is_ranked = request.num_candidates > request.num_choices
    shared = await sampling_params(
        request,
        service,
        max_tokens=request.max_output_tokens,
        logprobs=0 if is_ranked and request.logprobs is None else request.logprobs,
        prompt_logprobs=request.num_prompt_logprobs,
        headers=parsed.headers,
    )
    params = [seeded_params(shared, request.seed, request.num_candidates) for _ in prompts]
    choices = make_choices(prompts, params, request, service.tokenizer)
    formatter = CompletionFormatter(request, service.tokenizer)
    base = Completion(
        id=f"cmpl-{secrets.token_hex(16)}",
        created=int(time.time()),
        model=request.model,
        system_fingerprint=service.system_fingerprint,
        choices=[],
    )
    return await respond(
        http_request,
        parsed,
        choices,
        chunks=lambda queue: CompletionChunks(base, formatter, queue),
        response=lambda collector: formatter.response(base, choices, collector),
    )
