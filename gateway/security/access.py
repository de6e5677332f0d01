"""Who may ask for what: every request passes here before its body is read.

Decides on the path, the Authorization header and the peer's address: no forwarded header counts.
Who comes in without a key must not be a browser that some page made to ask; origins.py looks at
Origin and Host for that. What no route names is denied without a key like the rest. Must not know
what an endpoint does. Installed by app.py.
"""

import enum
from collections import Counter
from collections.abc import Sequence

from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import ApiError
from gateway.exchange_context import exchange_context
from gateway.security import keys
from gateway.security.exposure import is_loopback
from gateway.security.keyring import Keyring
from gateway.security.origins import Origins
from gateway.tenant import ANONYMOUS, KeyScope, Tenant

# OpenAI's clients send a key in the first, Anthropic's in the second; of both, they must agree.
KEY_HEADERS = (b"authorization", b"x-api-key")


class Access(enum.Enum):
    """What a route asks for: nothing, a key for the model, or an operator.

    An operator has a key of scope admin, or sits on this machine. Who changes the server sits there
    only if it has no keys.
    """

    OPEN = enum.auto()
    INFER = enum.auto()
    ADMIN = enum.auto()
    MANAGE = enum.auto()


class Gate:
    """Finds out whose request it is, in the exchange's context, and lets those in who may.

    On open paths the tenant is None for a request without a key that is known.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[tuple[Access, Route]],
        keyring: Keyring | None,
        origins: Origins,
        *,
        allow_anonymous: bool,
    ) -> None:
        """keyring: None for a server without keys, whose every caller is anonymous."""
        self._app = app
        self._routes = routes
        self._keyring = keyring
        self._origins = origins
        self._allow_anonymous = allow_anonymous
        self._num_open: Counter[str] = Counter()  # by tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one exchange on, or answer it with 401, 403 or 429."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await self._admit(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        tenant, access = self._tenant(scope), self._access(scope)
        context = exchange_context(scope)
        try:
            if tenant is None or tenant is ANONYMOUS:
                tenant = self._without_key(tenant, access, scope)
            context.tenant = tenant
            self._check(tenant, access, scope)
        except ApiError as error:
            headers = {"www-authenticate": "Bearer"} if error.status == 401 else None
            await context.refusal(error, headers)(scope, receive, send)
            return
        name = tenant.id if tenant is not None else ""
        self._num_open[name] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._num_open[name] -= 1
            if not self._num_open[name]:
                del self._num_open[name]

    def _access(self, scope: Scope) -> Access:
        for access, route in self._routes:
            if route.matches(scope)[0] is not Match.NONE:
                return access
        return Access.INFER  # to be told with 404

    def _tenant(self, scope: Scope) -> Tenant | None:
        if self._keyring is None:
            return ANONYMOUS
        given = [header for header in scope["headers"] if header[0] in KEY_HEADERS]
        if not given and self._allow_anonymous:
            return ANONYMOUS
        names, presented = {name for name, _ in given}, {_key(*header) for header in given}
        if len(names) != len(given) or len(presented) != 1:
            return None
        return self._keyring.find(presented.pop())

    def _without_key(self, tenant: Tenant | None, access: Access, scope: Scope) -> Tenant | None:
        """Return who asks, nobody where a browser may have been made to. Raises ApiError 403 where
        being on this network would have let it in."""
        try:
            self._origins.check(scope)
        except ApiError:
            if access is Access.OPEN or (tenant is None and access is Access.INFER):
                return None
            raise
        return tenant

    def _check(self, tenant: Tenant | None, access: Access, scope: Scope) -> None:
        """Raise ApiError unless `tenant` may have what asks for `access`."""
        is_operator = access is Access.ADMIN or (access is Access.MANAGE and self._keyring is None)
        if access is Access.OPEN or (is_operator and _is_local(scope)):
            return
        if tenant is None:
            message = (
                "This needs an API key that is known here. Send it in the header "
                f"'Authorization: Bearer {keys.KEY_FORMAT}' or 'x-api-key: {keys.KEY_FORMAT}'."
            )
            raise ApiError(401, message, code="invalid_api_key")
        needed = KeyScope.INFER if access is Access.INFER else KeyScope.ADMIN
        if needed not in tenant.scopes:
            message = f"This needs an API key of scope '{needed}'."
            raise ApiError(403, message, code="insufficient_scope")
        if tenant.max_requests and self._num_open[tenant.id] >= tenant.max_requests:
            message = f"This API key may have {tenant.max_requests} requests open at a time."
            raise ApiError(429, message, code="too_many_requests")


def _key(header: bytes, value: bytes) -> str:
    """Return the key that a header holds; nothing, which is nobody's, of another scheme's."""
    text = value.decode("latin-1").strip()
    if header == b"x-api-key":
        return text
    scheme, _, key = text.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    return client is not None and is_loopback(client[0])
