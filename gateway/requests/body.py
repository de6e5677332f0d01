"""Bodies of HTTP messages: read one under its caps, decode it, write JSON back.

Owns the byte caps, the time cap and the depth check that come before any decoding. Must not know
what a body means. Called by the endpoints.
"""

import asyncio
import codecs
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from gateway.connection import HALF_CLOSED
from gateway.errors import ApiError, from_decode_error, invalid
from gateway.exchange_context import exchange_context
from gateway.pool.body_budget import BodyReservation
from gateway.requests.content_coding import PIECE_BYTES, coding_of
from gateway.requests.no_numbers import fault_of_no_number
from gateway.requests.whole_numbers import with_whole_numbers
from gateway.service import Limits, Service

T = TypeVar("T")

# All objects of a body together may have so many: each name takes 0.5 us to look at.
MAX_JSON_NAMES = 100_000
NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


async def read_body(http_request: Request, service: Service) -> bytes:
    """Read the whole request body; it counts as held until the exchange is over.

    It is decoded where it comes compressed, and begins after a byte order mark. The limits count
    what it becomes. Raises ApiError 413 as soon as it is known to be too large, 503 when all bodies
    together are, 408 when it does not arrive, 415 for a coding that is not read here and 400 for
    a broken one; ClientDisconnect when the client leaves before its end.
    """
    limits = service.limits
    context = exchange_context(http_request.scope)
    assert context.tenant is not None, "the gate lets nobody unknown in here"
    context.body = held = BodyReservation(service.body_budget, context.tenant.id)
    coding = coding_of(http_request.headers.get("content-encoding", ""))
    declared = http_request.headers.get("content-length", "")
    if declared.isdecimal():
        if int(declared) > limits.max_body_bytes:
            raise _too_large(limits)
        held.check(int(declared))
    chunks: list[bytes] = []
    num_bytes, more_body = 0, True
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            while more_body:
                message = await http_request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                more_body = message.get("more_body", False)
                for piece in coding.decode(message.get("body", b"")):
                    chunks.append(piece)
                    num_bytes += len(piece)
                    if num_bytes > limits.max_body_bytes:
                        raise _too_large(limits)
                    held.grow(len(piece))
                    if len(piece) == PIECE_BYTES:
                        await asyncio.sleep(0)
    except TimeoutError:
        message_text = f"The request body did not arrive within {limits.body_timeout_s:g} seconds."
        raise ApiError(408, message_text, code="request_timeout") from None
    coding.end()
    return b"".join(chunks).removeprefix(codecs.BOM_UTF8)


def decode_body(body: bytes, decoder: msgspec.json.Decoder[T], max_depth: int) -> T:
    """Decode and validate JSON. Raises ApiError 400 that names the field at fault.

    An integer may be written as a decimal that is whole.
    """
    if is_deeper_than(body, max_depth):
        message = f"The request body nests arrays and objects more than {max_depth} deep."
        raise invalid(message, None, "invalid_json")
    if body.count(b":") > MAX_JSON_NAMES and _outside_strings(body).count(b":") > MAX_JSON_NAMES:
        message = f"The request body has more than {MAX_JSON_NAMES} names in its objects."
        raise invalid(message, None, "invalid_json")
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as error:
            if "got `float`" not in str(error):
                raise
            with contextlib.suppress(msgspec.ValidationError):  # of a number no integer can be
                body = with_whole_numbers(body, decoder.type)
            return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise fault_of_no_number(body) or from_decode_error(error, body) from None


def is_deeper_than(body: bytes, max_depth: int) -> bool:
    """Say whether JSON nests so deep that a recursive decoder could exhaust its stack.

    True also for broken JSON with that many unclosed brackets. Every pass is one of bytes' own
    methods: 10 MiB take a fraction of a second at worst, an ordinary body some microseconds.
    """
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return False
    brackets = _outside_strings(body).translate(None, NOT_BRACKETS)
    for _ in range(max_depth):  # each round takes off the innermost level
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return len(brackets) > max_depth or b"[]" in brackets or b"{}" in brackets


async def disconnected(receive: Receive, on_half_closed: Callable[[], None] = lambda: None) -> None:
    """Return when the client has left. Only after its body has been read.

    on_half_closed: called when bytes that mean nothing would show whether it has.
    """
    while (kind := (await receive())["type"]) != "http.disconnect":
        if kind == HALF_CLOSED:
            on_half_closed()


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with a msgspec Struct, or anything else it encodes, as JSON."""
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


def _outside_strings(body: bytes) -> bytes:
    """Return JSON without its strings, names included."""
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    return b"".join(unescaped.split(b'"')[::2])


def _too_large(limits: Limits) -> ApiError:
    message = f"The request body is larger than {limits.max_body_bytes} bytes."
    return ApiError(413, message, code="request_too_large")
