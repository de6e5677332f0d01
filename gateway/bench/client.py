"""One streamed completion, timed: when text came, how many tokens the server counted, what failed.

One time stamp a read and no JSON until the stream has ended; then only the events without text and
the last one are parsed. Called by gateway/bench/load.py.
"""

import re
import ssl
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.bench.streamed_request import (
    TRUST_HINT,
    BenchError,
    StreamedRequest,
    Target,
    request_bytes,
)
from gateway.client_key import HINT

# The first character of a non-empty "text"; servers differ in the space after the colon. Quotes
# inside generated text are escaped, so they cannot look like the key.
_HAS_TEXT = re.compile(rb'"text": ?"[^"]')


@dataclass(slots=True)
class Answer:
    """What came back for one request. Times are of time.perf_counter, in seconds.

    started_s is from before the connection is opened. due_s: when the request was to be sent, which
    a crowded client may not manage; latencies count from there. text_times_s has one entry for each
    event that carried text, the time its last byte was read. num_*_tokens are the server's own
    count, None where it sent none. max_tokens: how many were asked for. error is "" on success.
    """

    started_s: float = 0.0
    text_times_s: list[float] = field(default_factory=list)
    num_prompt_tokens: int | None = None
    num_output_tokens: int | None = None
    finish_reason: str = ""
    error: str = ""
    max_tokens: int = 0
    due_s: float = 0.0
    ended_s: float = 0.0

    def __post_init__(self) -> None:
        self.due_s = self.due_s or self.started_s

    @property
    def num_tokens(self) -> int:
        """Tokens of the answer. A server that sends no usage is taken at one token an event."""
        known = self.num_output_tokens
        return len(self.text_times_s) if known is None else known


async def stream_completion(
    target: Target, body: dict[str, Any], timeout_s: float, *, due_s: float = 0.0
) -> Answer:
    """POST `body` to /v1/completions and read its events to the end.

    due_s: when that should have happened, if not now. Failures of any kind are told in the
    answer's `error`; nothing is raised but cancellation.
    """
    events = _Events()
    request = request_bytes(target, "POST", "/v1/completions", msgspec.json.encode(body))
    exchange = StreamedRequest(request, events.feed)
    failure = ""
    answer = Answer(
        started_s=time.perf_counter(),
        text_times_s=events.text_times_s,
        max_tokens=int(body.get("max_tokens", 0)),
        due_s=due_s,
    )
    try:
        await exchange.perform(target, timeout_s)
    except TimeoutError:
        failure = f"not done within {timeout_s:g} s"
    except (OSError, ValueError) as error:
        failure = str(error) or type(error).__name__
    answer.ended_s = time.perf_counter()
    # An error told in the stream says more than the broken connection that follows it.
    answer.error = _read_rare_events(events, answer) or failure or _complaint(exchange)
    if not answer.error and not answer.num_output_tokens and not answer.text_times_s:
        answer.error = "no token came"
    return answer


async def fetch_json(
    target: Target, path: str, timeout_s: float = 10.0, *, body: dict[str, Any] | None = None
) -> Any:
    """GET a small JSON document, or POST for it with a body. Raises BenchError."""
    if body is None:
        request = request_bytes(target, "GET", path)
    else:
        request = request_bytes(target, "POST", path, msgspec.json.encode(body))
    exchange = StreamedRequest(request, feed=lambda data: False)
    try:
        await exchange.perform(target, timeout_s)
    except TimeoutError as error:
        raise BenchError(f"{target} did not answer within {timeout_s:g} s") from error
    except ssl.SSLCertVerificationError as error:
        raise BenchError(f"{target}: {error.verify_message}; {TRUST_HINT}") from error
    except OSError as error:
        raise BenchError(f"no server answers at {target}: {error.strerror or error}") from error
    except ValueError as error:
        raise BenchError(f"{target} does not speak HTTP/1.1: {error}") from error
    if exchange.status != 200:
        raise BenchError(f"{target}{path} answered {_complaint(exchange)}")
    try:
        return msgspec.json.decode(bytes(exchange.body))
    except msgspec.DecodeError as error:
        raise BenchError(f"{target}{path} is not JSON: {error}") from error


class _Events:
    """Splits a body into server-sent events; keeps when text came and what else was said."""

    def __init__(self) -> None:
        self.text_times_s: list[float] = []
        self.last_text = b""
        self.others: list[bytes] = []
        self._is_done = False
        self._rest = b""

    def feed(self, data: bytes) -> bool:
        """Take the next bytes of the stream; True once `[DONE]` has come."""
        now_s = time.perf_counter()
        data = self._rest + data
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        *events, self._rest = data.split(b"\n\n")
        for event in events:
            self._take(event, now_s)
        return self._is_done

    def _take(self, event: bytes, now_s: float) -> None:
        if not event.startswith(b"data:"):
            # Comments (pings) and other fields may stand before the data, or alone.
            event = event[event.find(b"\ndata:") + 1 :]
            if not event.startswith(b"data:"):
                return
        if _HAS_TEXT.search(event):
            self.text_times_s.append(now_s)
            self.last_text = event
        elif event.endswith(b"[DONE]"):
            self._is_done = True
        else:
            self.others.append(event)


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


def _read_rare_events(events: _Events, answer: Answer) -> str:
    """Fill in usage and finish reason; return what was wrong, or ""."""
    rare = [*events.others, events.last_text] if events.last_text else events.others
    for event in rare:
        try:
            chunk = msgspec.json.decode(event.removeprefix(b"data:"), type=_Chunk)
        except msgspec.DecodeError as error:
            return f"unreadable event: {error}"
        if chunk.error:
            return f"error in the stream: {_message(chunk.error)}"
        if chunk.usage:
            answer.num_prompt_tokens = chunk.usage.prompt_tokens
            answer.num_output_tokens = chunk.usage.completion_tokens
        for choice in chunk.choices:
            answer.finish_reason = choice.finish_reason or answer.finish_reason
    return ""


def _complaint(exchange: StreamedRequest) -> str:
    if exchange.is_stream:
        return ""
    if exchange.status == 200:
        return "the answer is not a stream of events"
    try:
        words = _message(msgspec.json.decode(bytes(exchange.body)))
    except (msgspec.DecodeError, UnicodeDecodeError):
        words = exchange.body[:200].decode("latin-1")
    hint = f"; {HINT}" if exchange.status == 401 else ""
    return f"HTTP {exchange.status}: {words}{hint}"


def _message(document: Any) -> str:
    """The human part of an error document; servers nest it differently."""
    while isinstance(document, dict):
        inner = document.get("error") or document.get("message") or document.get("detail")
        if inner is None:
            break
        document = inner
    return str(document)[:300]
