"""Anthropic's Messages: what their answers look like, whole and as the events of a stream.

Both make the same blocks of the same events: thoughts, text and calls, in the order in which the
model wrote them. Must not know templates, tokens or HTTP.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
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
from gateway.answers.sse import ChunkTemplate, event
from gateway.answers.whole_answer import WholeChoice
from gateway.dialects.error_forms import anthropic_error
from gateway.errors import ApiError
from gateway.schema.anthropic import MessagesRequest
from gateway.schema.anthropic_answer import (
    AnswerBlock,
    BlockDelta,
    BlockPiece,
    BlockStart,
    BlockStop,
    ContextManagement,
    Message,
    MessageDelta,
    MessageEnd,
    MessageEvent,
    MessageStart,
    MessageStop,
    MessageUsage,
    OutputDetails,
    Ping,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
)
from gateway.schema.usage import Usage
from gateway.service import Service

# Thoughts are not signed here; clients that look for a signature must find one.
_SIGNATURE = "dW5pc29ubw=="


class MessageAnswer:
    """Writes the answer to one request."""

    def __init__(self, request: MessagesRequest, service: Service) -> None:
        self._id = f"msg_{secrets.token_hex(12)}"
        self._request = request

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> Message:
        """Return the answer in one piece."""
        [whole] = choices
        blocks = _blocks(whole.events, shows_thoughts=_shows_thoughts(self._request))
        end = _end(whole.choice, self._request, is_call=whole.ends_in_call)
        return Message(
            id=self._id,
            model=self._request.model,
            content=blocks,
            stop_reason=end.stop_reason,
            stop_sequence=end.stop_sequence,
            usage=_usage(usage),
            context_management=_context_management(self._request),
        )

    def stream(self) -> "MessageStream":
        """Return what writes it as events."""
        return MessageStream(self._id, self._request)


class MessageStream:
    """Writes the events of a streamed answer. Blocks come one after the other."""

    media_type = "text/event-stream"
    ping = event(msgspec.json.encode(Ping()), "ping")
    usage: Callable[[], Usage]

    def __init__(self, id: str, request: MessagesRequest) -> None:
        self._id = id
        self._request = request
        self._shows_thoughts = _shows_thoughts(request)
        self._end: MessageEnd | None = None
        self._ends_in_call = False
        self._kind = ""  # of the open block; empty between blocks
        self._index = -1  # of the last block
        self._delta = _delta_template("text", 0)  # of the open block

    def begin(self, choice: Choice) -> bytes:
        """Say what was asked: the prompt's tokens are known by now."""
        message = Message(
            id=self._id, model=self._request.model, content=[], usage=_usage(self.usage())
        )
        return _event(MessageStart(message=message)) + self.ping

    def writer(self, choice: Choice, kind: PlainKind) -> PieceWriter:
        """Return what writes pieces of a kind, mostly into a block that is open."""
        if kind is TextDelta:
            return self._text
        return self._thought if kind is ReasoningDelta else self._arguments

    def pieces(
        self, choice: Choice, events: Sequence[AnswerEvent], tokens: Sequence[Token]
    ) -> bytes:
        """Write the events of blocks."""
        framed = b"".join(map(self._piece, events))
        if choice.finish_reason is not None:
            framed += self._stop()
            self._end = _end(choice, self._request, is_call=self._ends_in_call)
        return framed

    def finish(self, usage: Usage) -> bytes:
        """Say why the answer ended."""
        assert self._end is not None, "its only choice has ended"
        managed = _context_management(self._request)
        end = MessageDelta(delta=self._end, usage=_usage(usage), context_management=managed)
        return _event(end) + _event(MessageStop())

    def fail(self, error: ApiError, request_id: str) -> bytes:
        """Write an error object."""
        return event(anthropic_error(error, request_id), "error")

    def _piece(self, piece: AnswerEvent) -> bytes:
        match piece:
            case TextDelta(text):
                return self._text(text)
            case ReasoningDelta(text):
                return self._thought(text)
            case CallBegin(_, id, name):
                self._ends_in_call = False
                block = ToolUseBlock(id=_call_id(id), name=name, input={})
                return self._start("tool_use", block)
            case ArgumentsDelta(_, text):
                return self._arguments(text)
            case _:
                self._ends_in_call = True
                return self._stop()

    def _text(self, text: str) -> bytes:
        if self._kind == "text":
            return self._delta.event(text)
        return self._start("text", TextBlock(text="")) + self._delta.event(text)

    def _thought(self, text: str) -> bytes:
        opened = b""
        if self._kind != "thinking":
            opened = self._start("thinking", ThinkingBlock(thinking="", signature=""))
        return opened + self._delta.event(text) if self._shows_thoughts else opened

    def _arguments(self, text: str) -> bytes:
        return self._delta.event(text)

    def _start(self, kind: str, block: AnswerBlock) -> bytes:
        stopped = self._stop()
        self._kind = kind
        self._index += 1
        self._delta = _delta_template(kind, self._index)
        return stopped + _event(BlockStart(index=self._index, content_block=block))

    def _stop(self) -> bytes:
        """End the open block, if there is one."""
        kind, self._kind = self._kind, ""
        if not kind:
            return b""
        stopped = _event(BlockStop(index=self._index))
        if kind == "thinking":
            piece = BlockPiece(type="signature_delta", signature=_SIGNATURE)
            return _event(BlockDelta(index=self._index, delta=piece)) + stopped
        return stopped


_DELTAS = {
    "text": ("text", BlockPiece(type="text_delta", text="")),
    "thinking": ("thinking", BlockPiece(type="thinking_delta", thinking="")),
    "tool_use": ("partial_json", BlockPiece(type="input_json_delta", partial_json="")),
}


def _delta_template(kind: str, index: int) -> ChunkTemplate:
    field, piece = _DELTAS[kind]
    return ChunkTemplate(BlockDelta(index=index, delta=piece), field, name="content_block_delta")


def _event(struct: MessageEvent) -> bytes:
    """Frame an event, whose name is its type."""
    return event(msgspec.json.encode(struct), str(struct.__struct_config__.tag))


def _blocks(events: Iterable[AnswerEvent], *, shows_thoughts: bool) -> list[AnswerBlock]:
    """Return the blocks of a whole answer. A call that was cut off is none."""
    blocks: list[AnswerBlock] = []
    for kind, group in groupby(events, _kind_of):
        pieces = list(group)
        first = pieces[0]
        text = "".join(p.text for p in pieces if not isinstance(p, CallBegin | CallEnd))
        if kind == "text":
            blocks.append(TextBlock(text=text))
        elif kind == "thinking":
            thoughts = text if shows_thoughts else ""
            blocks.append(ThinkingBlock(thinking=thoughts, signature=_SIGNATURE))
        elif isinstance(first, CallBegin) and (input := _object(text or "{}")) is not None:
            blocks.append(ToolUseBlock(id=_call_id(first.id), name=first.name, input=input))
    return blocks


def _kind_of(piece: AnswerEvent) -> str:
    """Return what tells the pieces of a block from those of its neighbours."""
    match piece:
        case TextDelta():
            return "text"
        case ReasoningDelta():
            return "thinking"
        case _:
            return f"call {piece.index}"


def _end(choice: Choice, request: MessagesRequest, *, is_call: bool) -> MessageEnd:
    if choice.finish_reason is FinishReason.LENGTH:
        is_cut = choice.params.max_tokens < request.max_tokens
        return MessageEnd(stop_reason="model_context_window_exceeded" if is_cut else "max_tokens")
    if isinstance(choice.stop_reason, str):
        return MessageEnd(stop_reason="stop_sequence", stop_sequence=choice.stop_reason)
    return MessageEnd(stop_reason="tool_use" if is_call else "end_turn")


def _usage(usage: Usage) -> MessageUsage:
    num_cached_tokens = usage.prompt_tokens_details.cached_tokens
    details = usage.completion_tokens_details
    return MessageUsage(
        input_tokens=usage.prompt_tokens - num_cached_tokens,
        cache_read_input_tokens=num_cached_tokens,
        output_tokens=usage.completion_tokens,
        output_tokens_details=(
            OutputDetails(thinking_tokens=details.reasoning_tokens) if details else UNSET
        ),
    )


def _context_management(request: MessagesRequest) -> ContextManagement | UnsetType:
    return UNSET if request.context_management is None else ContextManagement()


def _shows_thoughts(request: MessagesRequest) -> bool:
    return request.thinking is None or request.thinking.display != "omitted"


def _call_id(id: str) -> str:
    """Return the id of a call as Anthropic's look."""
    return f"toolu_{id.removeprefix('call_')}"


def _object(text: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None
