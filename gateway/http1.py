"""What a request's head may look like: HTTP/1.1 and nothing else, read in one way only.

Hypercorn 0.18 has no limits for it, switches to HTTP/2 when asked in clear text, and takes targets
as they come. Must not know requests. Used by connection.py.
"""

import asyncio
import re
from typing import Any

import h11
from hypercorn.events import Closed
from hypercorn.protocol.h11 import H11Protocol

MAX_TARGET_BYTES = 1 << 13
MAX_HEADERS = 100
# A request target in absolute form, as for a proxy. Nobody is named in front of the host.
ABSOLUTE = re.compile(rb"https?://(?P<host>[^/?#@]+)(?P<path>(?:[/?][^#]*)?)", re.IGNORECASE)


class Http1(H11Protocol):  # type: ignore[misc]
    """HTTP/1.1 and nothing else; a head that could be read in two ways is refused."""

    def __init__(self, *args: Any) -> None:
        """args: as for Hypercorn's ProtocolWrapper, whose last names the protocol."""
        super().__init__(*args[:-1])
        self.answered = asyncio.Event()  # nothing of an exchange is left

    @property
    def has_request(self) -> bool:
        """Whether a request has come to its end, and its answer has not."""
        incomplete = (h11.IDLE, h11.SEND_BODY, h11.ERROR)
        return self.stream is not None and self.connection.their_state not in incomplete

    def probe(self) -> bytes:
        """Return an interim answer, which clients skip; nothing where none may be sent now."""
        connection = self.connection
        if connection.our_state is not h11.SEND_RESPONSE or connection.their_http_version != b"1.1":
            return b""
        # Of all interim answers the one that Python's http.client skips, too.
        return bytes(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")

    async def tell(self, message: dict[str, str]) -> None:
        """Have the application receive a message of ours."""
        await self.stream.app_put(message)

    async def _close_stream(self) -> None:
        await super()._close_stream()
        self.answered.set()

    async def _check_protocol(self, event: h11.Request) -> None:
        """Do not switch to HTTP/2 in clear text."""

    async def _create_stream(self, request: h11.Request) -> None:
        self.answered.clear()
        status = _refusal(request)
        if status is not None:
            await self._send_error_response(status)
            await self.send(Closed())
            return
        if any(name == b"upgrade" for name, _ in request.headers):
            # RFC 9110 says that it is to be ignored; Hypercorn would take up a websocket.
            headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
            request = h11.Request(
                method=request.method,
                target=request.target,
                headers=headers,
                http_version=request.http_version,
            )
        await super()._create_stream(_in_origin_form(request))


def _refusal(request: h11.Request) -> int | None:
    """Return the status for a head that is not served. h11 has refused what breaks its grammar."""
    if request.http_version not in (b"1.0", b"1.1"):
        return 505
    if len(request.target) > MAX_TARGET_BYTES:
        return 414
    if request.method == b"CONNECT":  # the one whose target is an authority
        return 501
    if not _is_target(request):
        return 400
    names = [name for name, _ in request.headers]
    if len(names) > MAX_HEADERS:
        return 431
    if b"transfer-encoding" in names and (
        b"content-length" in names or request.http_version == b"1.0"
    ):
        return 400
    return None


def _is_target(request: h11.Request) -> bool:
    """Whether the target has a form that RFC 9112 has for the method: /path, a URL, or *."""
    target = request.target
    return (
        target.startswith(b"/")
        or ABSOLUTE.fullmatch(target) is not None
        or (target == b"*" and request.method == b"OPTIONS")
    )


def _in_origin_form(request: h11.Request) -> h11.Request:
    """Return a request with a path for its target. The host of a URL replaces the Host header."""
    url = ABSOLUTE.fullmatch(request.target)
    if url is None:
        return request
    path = url["path"]
    if not path.startswith(b"/"):
        path = b"*" if request.method == b"OPTIONS" and not path else b"/" + path
    headers = [(name, value) for name, value in request.headers if name != b"host"]
    return h11.Request(
        method=request.method,
        target=path,
        headers=[(b"host", url["host"]), *headers],
        http_version=request.http_version,
    )
