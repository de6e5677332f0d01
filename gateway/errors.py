"""Every refusal, in OpenAI's shape unless a dialect has its own, and its headers.

OpenAI's is `{"error": {message, type, param, code}}`. Owns ApiError and the translation of
msgspec's complaints into the caller's words. Must not know which endpoint failed. Raised by
everything that looks at a request, rendered by app.py and the dialects.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.responses import Response

from backend.wire.messages import NO_TOKEN_LEFT

# openai-python obeys Retry-After up to 120 s and ignores anything longer.
MAX_RETRY_AFTER_S = 60.0

JSON_NAMES = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
# How msgspec writes a key of an object whose keys are the caller's own.
KEY_NOT_TOLD = "[...]"
PATH = re.compile(r" - at `\$(?P<path>[^`]*)`$")
TYPE_COMPLAINT = re.compile(r"^Expected `(?P<expected>[^`]+)`, got `(?P<actual>\w+)`")
RANGE_COMPLAINT = re.compile(r"^Expected `(?P<type>int|float)` (?P<side>[<>]=?) (?P<bound>\S+)")
LENGTH_COMPLAINT = re.compile(
    r"^Expected `(?P<type>str|array|object)` of length (?P<side>[<>]=) (?P<bound>\d+)"
)
ENUM_COMPLAINT = re.compile(r"^Invalid enum value (?P<value>.+)$", re.DOTALL)
PATTERN_COMPLAINT = re.compile(r"^Expected `str` matching regex '(?P<pattern>.+)'$")
TAG_COMPLAINT = re.compile(r"^Expected `(?P<expected>\w+)`$")
MISSING_COMPLAINT = re.compile(r"^Object missing required field `(?P<name>\w+)`")


class ErrorDetail(msgspec.Struct, frozen=True):
    """OpenAI's error object. All four keys are always there."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is not a success, and of an error event in a stream."""

    error: ErrorDetail


class ApiError(Exception):
    """A request that cannot be served, said in the words of whoever sent it.

    param names the field at fault; code is for programs. retry_after_s counts for 429 and 503.
    is_final: the same request would fail again, whatever its status says to clients that retry.
    headers: more of them, in lower case.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float = 1.0,
        is_final: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s
        self.is_final = is_final
        self._headers = dict(headers or {})

    @property
    def type(self) -> str:
        """OpenAI's coarse class of the error, which follows from the status."""
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def body(self) -> bytes:
        """Encode the error object."""
        return msgspec.json.encode(
            ErrorBody(ErrorDetail(self.message, self.type, self.param, self.code))
        )

    def headers(self) -> dict[str, str]:
        """Tell clients whether, and after how long, the same request is worth sending again."""
        if self.status in (429, 503):
            delay_s = min(max(self.retry_after_s, 0.0), MAX_RETRY_AFTER_S)
            return {
                "retry-after": str(max(1, math.ceil(delay_s))),
                "retry-after-ms": str(max(1, round(delay_s * 1000))),
                "x-should-retry": "true",
                **self._headers,
            }
        if self.is_final or (self.status < 500 and self.status not in (408, 409)):
            return {"x-should-retry": "false", **self._headers}
        return self._headers


def invalid(message: str, param: str | None, code: str = "invalid_value") -> ApiError:
    """Build the 400 for a field whose value cannot be used."""
    return ApiError(400, message, param=param, code=code)


def reworded_names(names: str, words: Mapping[str, str]) -> str:
    """Return the names of fields, or paths from them, in the words of a dialect.

    names: with commas between them. words: see reworded().
    """
    for ours, theirs in words.items():
        names = re.sub(rf"(?:^|(?<=, )){re.escape(ours)}(?=$|[.,\[])", theirs, names)
    return names


def missing(name: str, param: str | None = None) -> ApiError:
    """Build the 400 for what was left out. param: what the error names; None: `name`."""
    message = f"Missing required parameter: '{name}'."
    return invalid(message, name if param is None else param, "missing_required_parameter")


def reworded(error: ApiError, words: Mapping[str, str]) -> ApiError:
    """Return a refusal in the words of a dialect. words: our names of fields -> its own."""
    message = error.message
    for ours, theirs in words.items():
        message = re.sub(rf"'{re.escape(ours)}(?=['.\[])", f"'{theirs}", message)
    param = None if error.param is None else reworded_names(error.param, words)
    return ApiError(
        error.status,
        message,
        param=param,
        code=error.code,
        retry_after_s=error.retry_after_s,
        is_final=error.is_final,
    )


def engine_failed(message: str, *, is_final: bool = False) -> ApiError:
    """Build the 500 for a sequence that the engine gave up. `message` is for the caller.

    Where the request's rules contradict each other, it is a 400.
    """
    if message == NO_TOKEN_LEFT:
        rules = "such as logit_bias, allowed_token_ids, bad_words or a grammar"
        return ApiError(400, f"{message[0].upper()}{message[1:]}, {rules}.", code="no_token_left")
    return ApiError(500, message, code="engine_error", is_final=is_final)


def deadline_exceeded(timeout_s: float) -> ApiError:
    """Build the 408 for a request that took longer than its own `timeout`.

    Final: whoever set the deadline does not want the work done twice.
    """
    message = f"The request was not finished within its timeout of {timeout_s:g} seconds."
    return ApiError(408, message, param="timeout", code="deadline_exceeded", is_final=True)


def model_not_found(model: str) -> ApiError:
    """Build the 404 for a name that is not served."""
    return ApiError(
        404, f"The model '{model}' does not exist.", param="model", code="model_not_found"
    )


@dataclass(frozen=True, slots=True)
class ErrorForm:
    """How a dialect tells of a refusal.

    body: of an error and the id of the request. statuses: those that it has instead of ours; codes:
    by the code of an error, before those. id_header: where its clients look for the id of the
    request; empty for x-request-id alone.
    """

    body: Callable[[ApiError, str], bytes]
    statuses: Mapping[int, int] = field(default_factory=dict)
    id_header: str = ""
    codes: Mapping[str, int] = field(default_factory=dict)

    def status(self, error: ApiError) -> int:
        """Return the status of a refusal."""
        known = self.codes.get(error.code or "")
        return self.statuses.get(error.status, error.status) if known is None else known


OPENAI_ERRORS = ErrorForm(lambda error, request_id: error.body())


def error_response(
    error: ApiError,
    headers: dict[str, str] | None = None,
    form: ErrorForm = OPENAI_ERRORS,
    request_id: str = "",
) -> Response:
    """Render an ApiError, with `headers` on top of its own."""
    return Response(
        form.body(error, request_id),
        form.status(error),
        headers={**error.headers(), **(headers or {})},
        media_type="application/json",
    )


def from_decode_error(error: msgspec.DecodeError | UnicodeDecodeError, body: bytes) -> ApiError:
    """Turn a refusal of msgspec's into a 400 that names the field and what was sent."""
    if isinstance(error, UnicodeDecodeError):
        return invalid("The request body is not valid UTF-8.", None, "invalid_json")
    complaint = str(error)
    if not isinstance(error, msgspec.ValidationError):
        reason = complaint.removeprefix("JSON is malformed: ")
        if b"\\u" in body and _is_json_of_python(body):
            reason = "half of a surrogate pair, as \\ud83d is, is no character"
        return invalid(f"The request body is not valid JSON: {reason}.", None, "invalid_json")
    match = PATH.search(complaint)
    path = match["path"] if match else ""
    return _from_complaint(PATH.sub("", complaint), path.removeprefix("."), body)


def _is_json_of_python(body: bytes) -> bool:
    """Whether it is JSON to a reader that takes half a surrogate pair for a character."""
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def _from_complaint(complaint: str, path: str, body: bytes) -> ApiError:
    param = path.partition("[")[0] or None  # `stop[1]` is a fault of `stop`
    where = f"'{path}'" if path else "the request body"
    if match := MISSING_COMPLAINT.match(complaint):
        name = f"{path}.{match['name']}" if path else match["name"]
        return missing(name)
    if match := TYPE_COMPLAINT.match(complaint):
        expected, actual = _expected(match["expected"]), _article(match["actual"])
        if match["actual"] == "float":
            actual = "a decimal number"
        message = f"Invalid type for {where}: expected {expected}, but got {actual} instead."
        return invalid(message, param, "invalid_type")
    if match := TAG_COMPLAINT.match(complaint):
        message = f"Invalid type for {where}: expected {_expected(match['expected'])}."
        return invalid(message, param, "invalid_type")
    if match := RANGE_COMPLAINT.match(complaint):
        kind = "integer" if match["type"] == "int" else "decimal"
        side, bound = match["side"], match["bound"].removesuffix(".0")
        words, code = (
            ("above maximum", "above_max")
            if side.startswith("<")
            else ("below minimum", "below_min")
        )
        message = f"Invalid {where}: {kind} {words} value. Expected a value {side} {bound}"
        if KEY_NOT_TOLD not in path:
            message += f", but got {_shortened(_value_at(body, path))} instead"
        return invalid(f"{message}.", param, f"{kind}_{code}_value")
    if match := ENUM_COMPLAINT.match(complaint):
        message = f"Invalid {where}: {_shortened(match['value'])} is none of the allowed values."
        return invalid(message, param)
    if match := PATTERN_COMPLAINT.match(complaint):
        # msgspec doubles backslashes; to all but Python \Z is $.
        pattern = match["pattern"].replace("\\\\", "\\").replace("\\Z", "$")
        return invalid(f"Invalid {where}: the string does not match {pattern}.", param)
    if match := LENGTH_COMPLAINT.match(complaint):
        return _from_length(match, where, param, _value_at(body, path))
    return invalid(f"Invalid {where}: {complaint}.", param)


def _from_length(match: re.Match[str], where: str, param: str | None, value: Any) -> ApiError:
    kind = {"str": "string"}.get(match["type"], match["type"])
    if not value:
        return invalid(f"Invalid {where}: the {kind} is empty.", param, f"empty_{kind}")
    words, code = ("long", "above_max") if match["side"] == "<=" else ("short", "below_min")
    limit = "at most" if match["side"] == "<=" else "at least"
    unit = "characters" if kind == "string" else "elements"
    message = (
        f"Invalid {where}: {kind} too {words}. Expected {limit} {match['bound']} {unit}, "
        f"but got {len(value)} instead."
    )
    return invalid(message, param, f"{kind}_{code}_length")


def _expected(types: str) -> str:
    names = [_article(name) for name in types.split(" | ") if name != "null"]
    return " or ".join(names)


def _article(name: str) -> str:
    return JSON_NAMES.get(name, name)


def _value_at(body: bytes, path: str) -> Any:
    """Look up what was really sent; msgspec's message has only what was expected."""
    value = msgspec.json.decode(body)
    for key in re.findall(r"[^.\[\]]+", path):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
