"""GET /openapi.json and /docs: what this server can be asked, for programs and for people.

Both are open: a page in a browser sends no key. What the model is called is for those who may ask.
"""

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from gateway.description.docs_page import STYLE_HASH, docs_page
from gateway.description.openapi import openapi
from gateway.exchange_context import exchange_context
from gateway.requests.body import json_response
from gateway.requests.context_length import ContextLength
from gateway.service import Service


async def openapi_json(http_request: Request) -> Response:
    """Return the API's description, OpenAPI 3.1."""
    return json_response(openapi())


async def docs(http_request: Request) -> Response:
    """Return the same as a page."""
    service: Service = http_request.app.state.service
    is_known = exchange_context(http_request.scope).tenant is not None
    name = service.model_names[0] if is_known else "MODEL"
    limits, context = service.limits, ContextLength(service.pool)
    told = {
        "Context": f"{context.num_tokens:,} tokens, prompt and answer together",
        "Choices": f"{limits.max_choices} in one request, over all its prompts",
        "Body": f"{limits.max_body_bytes:,} bytes, {limits.max_json_depth} levels of nesting",
        "Log-probabilities": f"{limits.max_logprobs:,} in one request",
        "Time to send a body": f"{limits.body_timeout_s:g} seconds",
        "A reader that takes nothing": f"is cut off after {limits.send_timeout_s:g} seconds",
    }
    return HTMLResponse(
        docs_page(openapi(), name, told),
        # Nothing on the page is loaded or run, and nothing could be.
        headers={"content-security-policy": f"default-src 'none'; style-src '{STYLE_HASH}'"},
    )
