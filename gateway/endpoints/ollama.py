"""/api/chat, /api/generate, /api/tags, /api/ps and /api/show, as Ollama has them."""

import hashlib
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.dialects.dialect import Dialect, answer_parsed
from gateway.dialects.ollama import OLLAMA_CHAT, OLLAMA_GENERATE
from gateway.dialects.ollama_answer import OllamaAnswer, encode_line, timestamp
from gateway.model_facts import ModelFacts
from gateway.requests.body import json_response
from gateway.requests.capabilities import capabilities
from gateway.requests.context_length import ContextLength
from gateway.requests.parsed_request import parse_request
from gateway.schema.ollama import (
    OllamaChatRequest,
    OllamaDetails,
    OllamaGenerateRequest,
    OllamaModel,
    OllamaModels,
    OllamaRunning,
    OllamaRunningModels,
    OllamaShown,
    ShowRequest,
)
from gateway.service import Service

R = TypeVar("R", OllamaChatRequest, OllamaGenerateRequest)

# Clients ask for it to know which routes there are: Codex refuses what is older than this one, the
# first with a /v1/responses that it can use.
OLLAMA_VERSION = "0.13.4"

# A hundred years: Ollama's own are some two hundred, of a model that is kept.
_STAYS_S = 100 * 365 * 86_400

_SHOW = msgspec.json.Decoder(ShowRequest)


async def ollama_version(http_request: Request) -> Response:
    """Name the release of Ollama whose routes these are like; /version names our own."""
    return json_response({"version": OLLAMA_VERSION})


async def ollama_chat(http_request: Request) -> Response:
    """Answer a conversation, line by line or in one piece."""
    return await _answer(http_request, OLLAMA_CHAT)


async def ollama_generate(http_request: Request) -> Response:
    """Answer a prompt, line by line or in one piece."""
    return await _answer(http_request, OLLAMA_GENERATE)


async def ollama_tags(http_request: Request) -> Response:
    """List every name that requests may use."""
    service: Service = http_request.app.state.service
    return json_response(OllamaModels([_model(name, service) for name in service.model_names]))


async def ollama_running(http_request: Request) -> Response:
    """List every name as one of a model that is loaded, and stays."""
    service: Service = http_request.app.state.service
    context_length = ContextLength(service.pool).num_tokens
    never = timestamp(service.created + _STAYS_S)
    models = [
        OllamaRunning(
            **msgspec.structs.asdict(_model(name, service)),
            expires_at=never,
            context_length=context_length,
        )
        for name in service.model_names
    ]
    return json_response(OllamaRunningModels(models))


async def ollama_show(http_request: Request) -> Response:
    """Describe one name."""
    service: Service = http_request.app.state.service
    parsed = await parse_request(http_request, _SHOW, service.task, is_answered=False)
    facts = service.facts
    family = facts.family or "unisono"
    sizes = {"context_length": ContextLength(service.pool).num_tokens, **facts.sizes}
    shown = OllamaShown(
        template=facts.template,
        details=_details(facts),
        model_info={
            "general.architecture": family,
            "general.basename": service.model_names[0],
            "general.parameter_count": facts.num_parameters,
            **{f"{family}.{name}": size for name, size in sizes.items()},
        },
        capabilities=[*capabilities(service)],
        modified_at=timestamp(service.created),
    )
    return json_response(shown, headers=parsed.headers)


async def _answer(http_request: Request, dialect: Dialect[R]) -> Response:
    """Answer a request for text; one without any asks whether the model is there."""
    parsed = await parse_request(http_request, dialect.decoder)
    request = parsed.request
    if not request.is_load:
        return await answer_parsed(http_request, dialect, parsed)
    service: Service = http_request.app.state.service
    loaded = OllamaAnswer(request, service).loaded()
    if not request.is_streamed:
        return json_response(loaded, headers=parsed.headers)
    return Response(encode_line(loaded), headers=parsed.headers, media_type="application/x-ndjson")


def _model(name: str, service: Service) -> OllamaModel:
    digest = hashlib.sha256(service.system_fingerprint.encode()).hexdigest()
    return OllamaModel(
        name=name,
        model=name,
        modified_at=timestamp(service.created),
        digest=digest,
        size=service.facts.num_bytes,
        details=_details(service.facts),
    )


def _details(facts: ModelFacts) -> OllamaDetails:
    return OllamaDetails(
        format=facts.file_format,
        family=facts.family,
        families=[facts.family] if facts.family else [],
        parameter_size=facts.parameter_size,
        quantization_level=facts.quantization,
    )
