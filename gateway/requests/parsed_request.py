"""What every request for text goes through first: from a body to a checked request.

Owns the order of the checks that need neither tokenizer nor pool, cheap ones first. Must not know
what is generated. Called by the endpoints that generate.
"""

import time
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from starlette.requests import Request

from gateway.answers.generation import Terms
from gateway.errors import ApiError, model_not_found
from gateway.requests.body import decode_body, read_body
from gateway.requests.unknown_fields import ignored_header, unknown_fields
from gateway.schema.sampling import SamplingFields
from gateway.security.keys import Tenant
from gateway.service import Service

R = TypeVar("R", bound=SamplingFields)


@dataclass(frozen=True, slots=True)
class ParsedRequest(Generic[R]):
    """A request that makes sense. headers: what its answer tells about it."""

    asked: R
    terms: Terms
    headers: dict[str, str]


async def take(request: Request, decoder: msgspec.json.Decoder[R]) -> ParsedRequest[R]:
    """Read, decode and check the body of a request for text.

    Raises ApiError for what cannot be served, ClientDisconnect if the client left before its end.
    """
    arrived_s = time.monotonic()
    service: Service = request.app.state.service
    if service.pool.status().draining:
        raise ApiError(503, "The server is shutting down.", code="shutting_down", retry_after_s=5)
    body = await read_body(request, service)
    asked = decode_body(body, decoder, service.limits.max_json_depth)
    if asked.request_id is not None:
        # The `$` of its pattern lets one line break pass.
        request.scope["request_id"] = asked.request_id.removesuffix("\n")
    known = frozenset(asked.__struct_fields__)
    ignored = unknown_fields(body, known, is_strict=service.strict)
    ignored += asked.check(is_strict=service.strict)
    if asked.model not in service.model_names:
        raise model_not_found(asked.model)
    timeout_s = asked.timeout or 0.0
    tenant: Tenant = request.scope["tenant"]
    terms = Terms(
        tenant=tenant,
        priority=asked.priority or 0,
        cache_salt=_cache_salt(tenant, asked.cache_salt or ""),
        deadline=arrived_s + timeout_s if timeout_s else 0.0,
        timeout_s=timeout_s,
    )
    return ParsedRequest(asked, terms, ignored_header(ignored))


def _cache_salt(tenant: Tenant, asked: str) -> str:
    """Return what keeps this prompt's cached prefixes apart from others'.

    Tenants share none: how fast an answer comes would tell one what another has asked.
    """
    return f"{tenant.id}:{asked}" if tenant.id or asked else ""
