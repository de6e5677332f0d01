"""POST /v1/messages and /v1/messages/count_tokens, as Anthropic has them."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.dialects.dialect import answer
from gateway.dialects.messages import COUNT_TOKENS, MESSAGES, conversation_of, tools_of
from gateway.requests.body import json_response
from gateway.requests.conversation import encode_conversation
from gateway.requests.parsed_request import parse_request
from gateway.schema.anthropic_answer import TokenCount
from gateway.service import Service


async def create_message(http_request: Request) -> Response:
    """Answer a conversation, streamed or in one piece."""
    return await answer(http_request, MESSAGES)


async def count_tokens(http_request: Request) -> Response:
    """Count the tokens that the prompt of such a request would have, however many they are."""
    service: Service = http_request.app.state.service
    parsed = await parse_request(http_request, COUNT_TOKENS, is_answered=False)
    conversation, tools = conversation_of(parsed.request), tools_of(parsed.request)
    token_ids = await encode_conversation(
        conversation,
        tools.told if tools is not None else None,
        service.chat_templates,
        salt=parsed.options.cache_salt,
    )
    return json_response(TokenCount(input_tokens=len(token_ids)), headers=parsed.headers)
