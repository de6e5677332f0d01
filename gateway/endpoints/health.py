"""/livez, /readyz, /health, /version: what probes, load balancers and clients ask.

Readiness is what the pool computes from its groups' progress; nothing is judged here.
"""

from importlib import metadata
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from gateway.exchange_context import exchange_context
from gateway.requests.body import json_response
from gateway.service import Service

if TYPE_CHECKING:
    from gateway.pool.status import PoolStatus


async def livez(http_request: Request) -> Response:
    """Answer as long as the event loop turns: a restart would not help."""
    return json_response({"status": "alive"})


async def readyz(http_request: Request) -> Response:
    """Answer 200 while new work is taken, 503 while not; to those with a key every group's load."""
    service: Service = http_request.app.state.service
    status = service.pool.status()
    code = 200 if status.ready else 503
    details = (
        {} if exchange_context(http_request.scope).tenant is None else {"groups": status.groups}
    )
    return json_response({"status": _word(status), **details}, code)


async def version(http_request: Request) -> Response:
    """Name the release that is running; a source tree that is not installed has none."""
    try:
        release = metadata.version("unisono")
    except metadata.PackageNotFoundError:
        release = "unknown"
    return json_response({"version": release})


def _word(status: "PoolStatus") -> str:
    if status.ready:
        return "ready"
    if status.draining:
        return "draining"
    return "stalled" if status.stalled else "starting"
