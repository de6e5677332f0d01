"""CORS: what a browser asks before it lets a page call, and what it wants to see in every answer.

Answers preflights before anybody asks for a key: a browser sends none with them. Who may call is
for origins.py to say. Installed by app.py.
"""

import re

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.exchange_context import exchange_context
from gateway.security.origins import Origins, origin_of, refusal

METHODS = "GET, HEAD, POST, OPTIONS"
# What a page may read of an answer's head, beside the content's type and length.
EXPOSED = (
    b"x-request-id, request-id, x-unisono-ignored-fields, x-unisono-not-enforced, server-timing, "
    b"retry-after, retry-after-ms, x-should-retry"
)
# Browsers keep the answer to a preflight for two hours at most.
MAX_AGE_S = 7200
_HEADER_NAMES = re.compile(r"[A-Za-z0-9_\-, ]{1,2000}")


class CrossOrigin:
    """Tells browsers which pages may call. Others are served like everybody; see access.py."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one exchange on, with headers for its answer, or answer a preflight."""
        origin = origin_of(scope) if scope["type"] == "http" else None
        if origin is None:
            await self._app(scope, receive, send)
            return
        headers = exchange_context(scope).headers
        headers.append((b"vary", b"Origin"))
        is_allowed = self._origins.allows(origin, scope)
        if is_allowed:
            headers.append((b"access-control-allow-origin", origin.encode("latin-1")))
            headers.append((b"access-control-expose-headers", EXPOSED))
        if not _is_preflight(scope):
            await self._app(scope, receive, send)
        elif is_allowed:
            await _permission(scope)(scope, receive, send)
        else:
            await exchange_context(scope).refusal(refusal(origin))(scope, receive, send)


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and _given(scope, b"access-control-request-method") != ""


def _permission(scope: Scope) -> Response:
    """Allow what a page wants to send; what a route does not serve is refused with words then."""
    headers = {"access-control-allow-methods": METHODS, "access-control-max-age": str(MAX_AGE_S)}
    names = _given(scope, b"access-control-request-headers")
    if _HEADER_NAMES.fullmatch(names):
        headers["access-control-allow-headers"] = names
    if _given(scope, b"access-control-request-private-network") == "true":
        headers["access-control-allow-private-network"] = "true"
    return Response(status_code=204, headers=headers)


def _given(scope: Scope, wanted: bytes) -> str:
    values = (value for name, value in scope["headers"] if name == wanted)
    return str(next(values, b"").decode("latin-1"))
