"""Ollama's answers, whole and as lines of JSON. Calls come whole in both.

Must not know templates, tokens or HTTP.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from backend.wire.messages import FinishReason
from gateway.answer_events import (
    AnswerEvent,
    ArgumentsDelta,
    CallBegin,
    CallEnd,
    PlainKind,
    ReasoningDelta,
    TextDelta,
)
from gateway.answers.answer_stream import PieceWriter
from gateway.answers.choice import Choice, Token
from gateway.answers.sse import holes
from gateway.answers.whole_answer import Call, WholeChoice
from gateway.dialects.chat_logprobs import ContentTokens, chat_logprobs
from gateway.dialects.error_forms import ollama_error
from gateway.errors import ApiError
from gateway.schema.chat_answer import TokenLogprob
from gateway.schema.ollama import (
    OllamaAnswerMessage,
    OllamaChatAnswer,
    OllamaChatRequest,
    OllamaFunctionCall,
    OllamaGenerateAnswer,
    OllamaGenerateRequest,
    OllamaLogprob,
    OllamaToolCall,
    OllamaTopLogprob,
)
from gateway.schema.usage import Usage
from gateway.service import Service

_encode = msgspec.json.Encoder().encode
OllamaLine = OllamaChatAnswer | OllamaGenerateAnswer


class OllamaAnswer:
    """Writes the answer to one request."""

    def __init__(
        self, request: OllamaChatRequest | OllamaGenerateRequest, service: Service
    ) -> None:
        self._model = request.model
        self._is_chat = isinstance(request, OllamaChatRequest)
        self._begun_ns = time.monotonic_ns()
        self._num_logprobs = request.num_logprobs
        self._tokenizer = service.tokenizer

    @property
    def tells_logprobs(self) -> bool:
        """Whether log-probabilities go with the text."""
        return self._num_logprobs is not None

    def logprobs(self, tokens: Sequence[Token]) -> list[OllamaLogprob] | UnsetType:
        """Return the log-probabilities of tokens that are content."""
        if self._num_logprobs is None:
            return UNSET
        written = chat_logprobs(tokens, self._num_logprobs, self._tokenizer).content
        return [_logprob(entry) for entry in written or []]

    @property
    def text_field(self) -> str:
        """The field of a line that its text is in."""
        return "content" if self._is_chat else "response"

    def loaded(self) -> OllamaLine:
        """Return the answer to a request that asks for the model only."""
        return msgspec.structs.replace(self.line(), done=True, done_reason="load")

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> OllamaLine:
        """Return the answer in one piece."""
        [whole] = choices
        first_s = whole.timings.first_token
        first_ns = int(first_s * 1e9) if first_s else time.monotonic_ns()
        calls = [
            written
            for index, call in enumerate(whole.calls)
            if (written := _call(index, call)) is not None
        ]
        line = self.line(whole.text, whole.reasoning or UNSET, calls or UNSET)
        tokens = ContentTokens().take(whole.events, whole.own_tokens)
        line = msgspec.structs.replace(line, logprobs=self.logprobs(tokens))
        return self.ended(line, whole.choice, usage, first_ns)

    def stream(self) -> "OllamaStream":
        """Return what writes it as lines."""
        return OllamaStream(self)

    def line(
        self,
        text: str = "",
        thinking: str | UnsetType = UNSET,
        calls: list[OllamaToolCall] | UnsetType = UNSET,
    ) -> OllamaLine:
        """Return a piece of the answer."""
        now = timestamp(time.time())
        if not self._is_chat:
            return OllamaGenerateAnswer(
                model=self._model, created_at=now, response=text, thinking=thinking
            )
        message = OllamaAnswerMessage(content=text, thinking=thinking, tool_calls=calls)
        return OllamaChatAnswer(model=self._model, created_at=now, message=message)

    def ended(self, line: OllamaLine, choice: Choice, usage: Usage, first_ns: int) -> OllamaLine:
        """Return the last line. first_ns: when the first token came, CLOCK_MONOTONIC."""
        now_ns = time.monotonic_ns()
        is_cut = choice.finish_reason is FinishReason.LENGTH
        return msgspec.structs.replace(
            line,
            done=True,
            done_reason="length" if is_cut else "stop",
            total_duration=now_ns - self._begun_ns,
            load_duration=0,
            prompt_eval_count=usage.prompt_tokens,
            prompt_eval_duration=max(0, first_ns - self._begun_ns),
            eval_count=usage.completion_tokens,
            eval_duration=max(0, now_ns - first_ns),
        )


class OllamaStream:
    """Writes the lines of a streamed answer."""

    media_type = "application/x-ndjson"
    ping = b""
    usage: Callable[[], Usage]

    def __init__(self, answer: OllamaAnswer) -> None:
        self._answer = answer
        self._choice: Choice | None = None
        self._first_ns = 0
        self._calls: dict[int, Call] = {}  # those that are not complete
        self._content = ContentTokens()

    def begin(self, choice: Choice) -> bytes:
        """Nothing comes before the text."""
        self._choice = choice
        self._first_ns = time.monotonic_ns()
        return b""

    def writer(self, choice: Choice, kind: PlainKind) -> PieceWriter | None:
        """Return what writes pieces of a kind as lines that are encoded but for text and time."""
        if self._answer.tells_logprobs:
            return None
        if kind is ArgumentsDelta:
            return self._arguments
        return LineTemplate(self._answer, is_thought=kind is ReasoningDelta).event

    def pieces(
        self, choice: Choice, events: Sequence[AnswerEvent], tokens: Sequence[Token]
    ) -> bytes:
        """Write a line for each piece, and for each call that is complete.

        Tokens are told of with the first text.
        """
        if not self._answer.tells_logprobs:
            return b"".join(map(self._piece, events))
        told = self._content.take(events, tokens)
        framed = b""
        for piece in events:
            if isinstance(piece, TextDelta) and told:
                line = self._answer.line(piece.text)
                scored = msgspec.structs.replace(line, logprobs=self._answer.logprobs(told))
                framed += encode_line(scored)
                told = []
            else:
                framed += self._piece(piece)
        if told:
            line = self._answer.line()
            framed += encode_line(
                msgspec.structs.replace(line, logprobs=self._answer.logprobs(told))
            )
        return framed

    def finish(self, usage: Usage) -> bytes:
        """Say why the answer ended."""
        assert self._choice is not None, "its only choice has ended"
        line = self._answer.line()
        return encode_line(self._answer.ended(line, self._choice, usage, self._first_ns))

    def fail(self, error: ApiError, request_id: str) -> bytes:
        """Write an error object."""
        return ollama_error(error) + b"\n"

    def _arguments(self, text: str) -> bytes:
        """Keep them until the call is complete: only one at a time is not."""
        [call] = self._calls.values()
        call.arguments += text
        return b""

    def _piece(self, piece: AnswerEvent) -> bytes:
        match piece:
            case TextDelta(text):
                return encode_line(self._answer.line(text))
            case ReasoningDelta(text):
                return encode_line(self._answer.line(thinking=text))
            case CallBegin(index, id, name):
                self._calls[index] = Call(id, name)
            case ArgumentsDelta(_, text):
                self._arguments(text)
            case CallEnd(index):
                call = _call(index, self._calls.pop(index))
                if call is not None:
                    return encode_line(self._answer.line(calls=[call]))
        return b""


class LineTemplate:
    """A line encoded once, around its time and its text."""

    def __init__(self, answer: OllamaAnswer, *, is_thought: bool) -> None:
        line = answer.line(thinking="") if is_thought else answer.line()
        field = "thinking" if is_thought else answer.text_field
        line = msgspec.structs.replace(line, created_at="")
        self._head, self._middle, self._tail = holes(encode_line(line), "created_at", field)

    def event(self, text: str) -> bytes:
        """Return the line."""
        now = _quoted_time(time.time_ns() // 1_000_000)
        return b"".join((self._head, now, self._middle, _encode(text), self._tail))


def encode_line(line: OllamaLine) -> bytes:
    """Encode one line with its end."""
    return msgspec.json.encode(line) + b"\n"


def timestamp(seconds: float) -> str:
    """Write seconds since the epoch as RFC 3339 has them."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1e6):06}Z"


@lru_cache(maxsize=2)
def _quoted_time(milliseconds: int) -> bytes:
    """Return the time as JSON; many lines are written within a millisecond."""
    return b'"%b"' % timestamp(milliseconds / 1000).encode()


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _logprob(entry: TokenLogprob) -> OllamaLogprob:
    top = [
        OllamaTopLogprob(token=other.token, logprob=other.logprob, bytes=other.bytes)
        for other in entry.top_logprobs
    ]
    return OllamaLogprob(
        token=entry.token, logprob=entry.logprob, bytes=entry.bytes, top_logprobs=top or UNSET
    )


def _call(index: int, call: Call) -> OllamaToolCall | None:
    """Return a call; None for arguments that are no object."""
    try:
        arguments = msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None
    function = OllamaFunctionCall(name=call.name, arguments=arguments, index=index)
    return OllamaToolCall(id=call.id, function=function)
