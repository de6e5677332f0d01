"""POST /v1/responses, and what else is asked under that name."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.dialects.dialect import answer
from gateway.dialects.responses import RESPONSES
from gateway.errors import ApiError
from gateway.requests.body import json_response
from gateway.requests.encoded_request import encode_messages
from gateway.requests.parsed_request import parse_request
from gateway.requests.text_request import PlainPrompts
from gateway.schema.responses_answer import InputTokens
from gateway.service import Service


async def create_response(http_request: Request) -> Response:
    """Answer an input, streamed or in one piece."""
    return await answer(http_request, RESPONSES)


async def count_input_tokens(http_request: Request) -> Response:
    """Say how many tokens an input is."""
    service: Service = http_request.app.state.service
    parsed = await parse_request(http_request, RESPONSES.decoder)
    request = RESPONSES.read(parsed.request)
    assert not isinstance(request.source, PlainPrompts), "an input is a conversation"
    token_ids = await encode_messages(request, request.source, service, parsed.options.cache_salt)
    return json_response(InputTokens(len(token_ids)), headers=parsed.headers)


async def retrieve_response(http_request: Request) -> Response:
    """Refuse to look for an answer: none is stored."""
    message = "No answer is stored here: send all that was said before in 'input'."
    raise ApiError(404, message, param="response_id", code="response_not_found")
