"""What every request to the model goes through first: from a body to a checked request.

Owns the order of the checks that need neither tokenizer nor pool, cheap ones first. Must not know
what is generated. Called by the endpoints that generate.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec
from starlette.requests import Request

from gateway.errors import ApiError, invalid, model_not_found
from gateway.exchange_context import exchange_context
from gateway.pool.submit_options import SubmitOptions
from gateway.requests.body import decode_body, read_body
from gateway.requests.unknown_fields import ignored_header, unknown_fields
from gateway.service import Service
from gateway.tenant import Tenant


class RequestFields(Protocol):
    """The fields that all requests to the model have, whatever their dialect.

    priority: lower runs earlier. cache_salt: prompts share cached prefixes only under equal salts.
    request_id: becomes the exchange's. timeout: seconds for the whole request.
    """

    @property
    def __struct_fields__(self) -> tuple[str, ...]: ...
    @property
    def model(self) -> str: ...
    @property
    def priority(self) -> int | None: ...
    @property
    def cache_salt(self) -> str | None: ...
    @property
    def request_id(self) -> str | None: ...
    @property
    def timeout(self) -> float | None: ...
    def check(self, *, is_strict: bool) -> None:
        """Raise ApiError for what one field alone cannot say.

        is_strict: OpenAI's limits hold where ours are wider.
        """


R = TypeVar("R", bound=RequestFields)

# What answers each kind of request, as the refusal of another names it.
ENDPOINTS = {
    "generate": "/v1/completions and /v1/chat/completions",
    "embed": "/v1/embeddings",
    "rerank": "/v1/rerank",
}
_GIVES = {"generate": "makes text", "embed": "makes embeddings", "rerank": "ranks documents"}


@dataclass(frozen=True, slots=True)
class ParsedRequest(Generic[R]):
    """A request that makes sense. headers: what its answer tells about it."""

    request: R
    options: SubmitOptions
    headers: dict[str, str]


def group_of_model(request: RequestFields, service: Service) -> str:
    """Return which groups a request means by its model. Raises ApiError for what is not served."""
    if (group := service.group_of(request.model)) is None:
        raise model_not_found(request.model)
    return group


async def parse_request(
    http_request: Request,
    decoder: msgspec.json.Decoder[R],
    task: str = "generate",
    group_of: Callable[[R, Service], str] = group_of_model,
    *,
    is_answered: bool = True,
) -> ParsedRequest[R]:
    """Read, decode and check the body of a request.

    task: what the model must be served for, a key of ENDPOINTS. group_of: says which groups are
    meant, "" for those that answer where none is named. is_answered: it is for more than the number
    of its tokens, or the like.
    Raises ApiError for what cannot be served, ClientDisconnect if the client left before its end.
    """
    arrived_s = time.monotonic()
    context = exchange_context(http_request.scope)
    service: Service = http_request.app.state.service
    if service.pool.status().draining:
        raise ApiError(503, "The server is shutting down.", code="shutting_down", retry_after_s=5)
    body = await read_body(http_request, service)
    request = decode_body(body, decoder, service.limits.max_json_depth)
    if request.request_id is not None:
        # The `$` of its pattern lets one line break pass.
        context.request_id = request.request_id.removesuffix("\n")
    known = frozenset(request.__struct_fields__)
    is_text = is_answered and task == "generate"
    ignored = unknown_fields(body, known, is_strict=service.strict, is_answered=is_text)
    request.check(is_strict=service.strict)
    group = group_of(request, service)
    _check_task(request.model or service.model_names[0], service, task)
    timeout_s = request.timeout or 0.0
    tenant = context.tenant
    assert tenant is not None, "the gate lets nobody unknown in here"
    options = SubmitOptions(
        tenant=tenant,
        priority=request.priority or 0,
        cache_salt=_cache_salt(tenant, request.cache_salt or ""),
        group=group,
        deadline=arrived_s + timeout_s if timeout_s else 0.0,
        timeout_s=timeout_s,
    )
    return ParsedRequest(request, options, ignored_header(ignored))


def _check_task(model: str, service: Service, task: str) -> None:
    if service.task != task:
        raise invalid(
            f"The model '{model}' {_GIVES[service.task]}: POST {ENDPOINTS[service.task]}.",
            "model",
            "wrong_task",
        )


def _cache_salt(tenant: Tenant, own_salt: str) -> str:
    """Return what keeps this prompt's cached prefixes apart from others'.

    Tenants share none: how fast an answer comes would tell one what another has asked.
    """
    return f"{tenant.id}:{own_salt}" if tenant.id or own_salt else ""
