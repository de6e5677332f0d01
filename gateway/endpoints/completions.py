"""POST /v1/completions."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.dialects.completions import COMPLETIONS
from gateway.dialects.dialect import answer


async def create_completion(http_request: Request) -> Response:
    """Complete every prompt n times, streamed or in one piece."""
    return await answer(http_request, COMPLETIONS)
