"""Whether a page in a browser may call, and by which names the server may be called.

A browser lends any page its place on the network: without keys, that place is all that lets a
caller in. So pages must be named, and over loopback the name must be local: a foreign one there is
one that its owner has pointed at this machine (DNS rebinding). Knows settings and ASGI scopes, no
keys. Asked by access.py and cross_origin.py.
"""

import ipaddress
import re
import socket
from collections.abc import Sequence

from starlette.types import Scope

from gateway.errors import ApiError
from gateway.security.exposure import is_loopback

# Words instead of origins; without any, pages of this machine may call over loopback.
ANY, NONE = "*", "none"
_MAX_SHOWN = 100


class Origins:
    """The origins of pages and the names of the server that the operator has named."""

    def __init__(self, pages: Sequence[str] = (), hosts: Sequence[str] = ()) -> None:
        """pages: origins, in which * stands for anything but a slash. hosts: without ports."""
        self._is_default = not pages
        named = [page.lower() for page in pages if page != NONE]
        self._pages = re.compile("|".join(map(_pattern, named))) if named else None
        self._are_hosts_named = bool(hosts)
        self._hosts = {host.lower().rstrip(".") for host in hosts}

    def allows(self, origin: str, scope: Scope) -> bool:
        """Whether pages of this origin may call: those that were named, and the server's own."""
        if origin.partition("://")[2].lower() == _host_and_port(scope) != "":
            return True
        if self._is_default:
            return _is_over_loopback(scope) and _is_local(_host_of(origin.partition("://")[2]))
        return self._pages is not None and self._pages.fullmatch(origin.lower()) is not None

    def check(self, scope: Scope) -> None:
        """Raise ApiError 403 for a request that a browser may have been made to send."""
        name = _host_of(_host_and_port(scope))
        if name and not self._is_called(name, scope):
            message = (
                f"This server is not called '{name[:_MAX_SHOWN]}'. Where that name is right, name "
                "it when starting the server: --allowed-hosts."
            )
            raise ApiError(403, message, code="host_not_allowed")
        origin = origin_of(scope)
        if origin is not None and not self.allows(origin, scope):
            raise refusal(origin)

    def _is_called(self, name: str, scope: Scope) -> bool:
        if ANY in self._hosts or name in self._hosts or _is_address(name) or _is_local(name):
            return True
        if self._are_hosts_named:
            return False
        return not _is_over_loopback(scope) or name == socket.gethostname().lower()


def origin_of(scope: Scope) -> str | None:
    """Return the origin of the page that asks; None for what is no page."""
    given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
    return ", ".join(given) if given else None


def refusal(origin: str) -> ApiError:
    """Build the 403 for pages that may not call."""
    message = (
        f"Pages of '{origin[:_MAX_SHOWN]}' may not call this server. Where they should, name their "
        "origin when starting it: --cors-origins."
    )
    return ApiError(403, message, code="origin_not_allowed")


def _pattern(page: str) -> str:
    return ".*" if page == ANY else re.escape(page).replace(r"\*", "[^/]+")


def _host_and_port(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"host":
            return str(value.decode("latin-1").lower())
    return ""  # HTTP/1.0, which no browser speaks


def _host_of(authority: str) -> str:
    """Take the port off, and the brackets of an IPv6 address."""
    host = re.sub(r":\d*$", "", authority.lower())
    return host.removeprefix("[").removesuffix("]").rstrip(".")


def _is_address(name: str) -> bool:
    """Whether it is an IP address: nobody can point that somewhere else."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_local(name: str) -> bool:
    """Whether only this machine is called so (RFC 6761)."""
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


def _is_over_loopback(scope: Scope) -> bool:
    server = scope.get("server")
    return server is not None and is_loopback(server[0])
