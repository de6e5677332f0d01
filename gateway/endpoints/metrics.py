"""GET /metrics: the figures of the whole server, in the words of Prometheus.

Any worker answers for all. Owns no figures: see gateway/telemetry.
"""

from importlib import metadata

from starlette.requests import Request
from starlette.responses import Response

from gateway.service import Service
from gateway.telemetry.exposition import ServerFigures


async def metrics(http_request: Request) -> Response:
    """Return the page of figures in the format that is asked for."""
    service: Service = http_request.app.state.service
    observer = service.observer
    figures = ServerFigures(
        observer.workers(),
        observer.groups(),
        observer.supervisor(),
        (metadata.version("unisono"), service.model_names[0]),
    )
    body, content_type = figures.text(http_request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})
