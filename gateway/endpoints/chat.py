"""POST /v1/chat/completions."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.dialects.chat import CHAT
from gateway.dialects.dialect import answer


async def create_chat_completion(http_request: Request) -> Response:
    """Answer a conversation n times, streamed or in one piece."""
    return await answer(http_request, CHAT)
