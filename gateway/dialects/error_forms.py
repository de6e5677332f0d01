"""How each dialect tells of a refusal, and which of them a request is to be answered in.

OpenAI's form is in errors.py: it is everybody's who asks for no other. Called by app.py before
anything is known of a request but its head.
"""

from collections.abc import Mapping

import msgspec

from gateway.errors import OPENAI_ERRORS, ApiError, ErrorForm
from gateway.schema.anthropic_answer import AnthropicError, AnthropicErrorDetail
from gateway.schema.ollama import OllamaError
from gateway.schema.takeoff import TakeoffError

# Anthropic's types of errors by our status; those of others follow from the hundreds.
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def anthropic_error(error: ApiError, request_id: str | None = None) -> bytes:
    """Encode an error object of Anthropic's."""
    fallback = "api_error" if error.status >= 500 else "invalid_request_error"
    kind = _ANTHROPIC_TYPES.get(error.status, fallback)
    message = error.message
    if error.code == "context_length_exceeded":
        # Claude Code shortens a conversation when it reads these words.
        message = f"prompt is too long: {message}"
    detail = AnthropicErrorDetail(kind, message)
    return msgspec.json.encode(AnthropicError(error=detail, request_id=request_id))


# 529: what Anthropic's servers say instead of 503, and its clients wait and try again on.
ANTHROPIC_ERRORS = ErrorForm(anthropic_error, {503: 529}, "request-id")


def ollama_error(error: ApiError, request_id: str = "") -> bytes:
    """Encode an error object of Ollama's."""
    return msgspec.json.encode(OllamaError(error.message))


OLLAMA_ERRORS = ErrorForm(ollama_error)


def takeoff_error(error: ApiError, request_id: str = "") -> bytes:
    """Encode an error object for Takeoff's clients, which show all of a refusal's body."""
    return msgspec.json.encode(TakeoffError(error.message))


# 422: what Takeoff says of JSON that is not of the form that it reads.
TAKEOFF_ERRORS = ErrorForm(
    takeoff_error, codes={"invalid_type": 422, "missing_required_parameter": 422}
)
# Of /tokenize and /detokenize, what is below is Takeoff's.
_TAKEOFF_PATHS = (
    "/generate /generate_stream /embed /classify /chat_template /status /config /healthz "
    "/reader /reader_groups"
).split()
_TAKEOFF_BELOW = ("/tokenize/", "/detokenize/")

_FORMS = {"/v1/messages": ANTHROPIC_ERRORS, "/api": OLLAMA_ERRORS}
# Paths that several dialects have, and the header by which one of them is told.
_SHARED_PATHS = ("/v1/models",)
ANTHROPIC_VERSION = "anthropic-version"


def error_form_of(path: str, headers: Mapping[bytes, bytes]) -> ErrorForm:
    """Return the form for a request's path and headers."""
    for prefix, form in _FORMS.items():
        if _is_below(path, prefix):
            return form
    if path.startswith(_TAKEOFF_BELOW) or any(_is_below(path, each) for each in _TAKEOFF_PATHS):
        return TAKEOFF_ERRORS
    if ANTHROPIC_VERSION.encode() in headers and any(
        _is_below(path, each) for each in _SHARED_PATHS
    ):
        return ANTHROPIC_ERRORS
    return OPENAI_ERRORS


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")
