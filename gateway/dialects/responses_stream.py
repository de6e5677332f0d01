"""OpenAI's Responses as events: what each item grows by, and all of it at its end.

The last event has the whole answer once more. Called through responses_answer.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET

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
from gateway.answers.whole_answer import Call
from gateway.dialects.chat_logprobs import ContentTokens
from gateway.dialects.responses_items import ItemWriter, ended, new_id
from gateway.errors import ApiError
from gateway.schema.chat_answer import TokenLogprob
from gateway.schema.responses_answer import (
    CustomToolCallItem,
    FunctionCallItem,
    ItemStatus,
    ModelResponse,
    OutputItem,
    OutputText,
    ReasoningText,
    ResponseFault,
    ResponsesEvent,
    ToolSearchCallItem,
)
from gateway.schema.usage import Usage

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Item:
    """An item of a stream that has begun and not ended.

    call: of a call, whose arguments are the pieces. is_silent: what it grows by is not told; only
    all of it is a custom tool's input, or a search. parts: of the event that it grows by, around
    number and text.
    """

    kind: type[TextDelta] | type[ReasoningDelta] | type[CallBegin]
    id: str
    index: int
    pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    call: Call | None = None
    is_silent: bool = False
    parts: tuple[bytes, bytes, bytes] = (b"", b"", b"")

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class ResponsesStream:
    """Writes the events of a streamed answer, each with its number."""

    media_type = "text/event-stream"
    ping = b": ping\n\n"
    usage: Callable[[], Usage]

    def __init__(self, base: ModelResponse, writer: ItemWriter) -> None:
        self._base = base
        self._writer = writer
        self._num_events = 0
        self._open: _Item | None = None
        self._output: list[OutputItem] = []
        self._choice: Choice | None = None
        self._content = ContentTokens()

    def begin(self, choice: Choice) -> bytes:
        """Say that there will be an answer."""
        self._choice = choice
        created = self._event("response.created", response=self._base)
        return created + self._event("response.in_progress", response=self._base)

    def writer(self, choice: Choice, kind: PlainKind) -> PieceWriter | None:
        """Return what writes pieces of a kind, mostly of an item that is open."""
        if self._writer.tells_logprobs:
            return None
        if kind is TextDelta:
            return self._plain_text
        return self._thought if kind is ReasoningDelta else self._arguments

    def pieces(
        self, choice: Choice, events: Sequence[AnswerEvent], tokens: Sequence[Token]
    ) -> bytes:
        """Write an event for each; tokens are told of with the first text."""
        told = self._writer.logprobs(self._content.take(events, tokens))
        framed = b""
        if told and not any(isinstance(piece, TextDelta) for piece in events):
            events = [TextDelta(""), *events]
        for piece in events:
            match piece:
                case TextDelta(text):
                    framed += self._text(text, told)
                    told = []
                case ReasoningDelta(text):
                    framed += self._thought(text)
                case CallBegin():
                    framed += self._begin_call(piece)
                case ArgumentsDelta(_, text):
                    framed += self._arguments(text)
                case CallEnd():
                    framed += self._end_item("completed")
        if choice.finish_reason is not None:
            framed += self._end(choice)
        return framed

    def _text(self, text: str, logprobs: list[TokenLogprob]) -> bytes:
        """Write more of what the model says."""
        if not logprobs:
            return self._plain_text(text)
        framed = b"" if self._is_open(TextDelta) else self._begin_item(TextDelta, "msg")
        item = self._open
        assert item is not None
        item.pieces.append(text)
        item.logprobs += logprobs
        return framed + self._event(
            "response.output_text.delta",
            item_id=item.id,
            output_index=item.index,
            content_index=0,
            delta=text,
            logprobs=logprobs,
        )

    def _plain_text(self, text: str) -> bytes:
        """Do the same without log-probabilities: most events are of this kind or the next."""
        if self._open is not None and self._open.kind is TextDelta:
            return self._grow(self._open, text)
        framed = self._begin_item(TextDelta, "msg")
        assert self._open is not None
        return framed + self._grow(self._open, text)

    def _thought(self, text: str) -> bytes:
        if self._open is not None and self._open.kind is ReasoningDelta:
            return self._grow(self._open, text)
        framed = self._begin_item(ReasoningDelta, "rs")
        assert self._open is not None
        return framed + self._grow(self._open, text)

    def _arguments(self, text: str) -> bytes:
        item = self._open
        assert item is not None and item.call is not None
        if item.is_silent:
            item.pieces.append(text)
            return b""
        return self._grow(item, text)

    def _grow(self, item: _Item, text: str) -> bytes:
        item.pieces.append(text)
        number = self._num_events
        self._num_events = number + 1
        head, middle, tail = item.parts
        return b"%b%d%b%b%b" % (head, number, middle, _encode(text), tail)

    def finish(self, usage: Usage) -> bytes:
        """Tell the whole answer."""
        assert self._choice is not None
        whole = ended(self._base, self._choice, self._output, usage)
        return self._event(f"response.{whole.status}", response=whole)

    def fail(self, error: ApiError, request_id: str) -> bytes:
        """Tell that the answer broke off."""
        fault = ResponseFault(error.code or "server_error", error.message)
        failed = msgspec.structs.replace(
            self._base, status="failed", error=fault, output=self._output
        )
        return self._event("response.failed", response=failed)

    def _begin_call(self, piece: CallBegin) -> bytes:
        return self._begin_item(CallBegin, "fc", Call(piece.id, piece.name))

    def _is_open(self, kind: type) -> bool:
        return self._open is not None and self._open.kind is kind

    def _begin_item(
        self,
        kind: type[TextDelta] | type[ReasoningDelta] | type[CallBegin],
        prefix: str,
        call: Call | None = None,
    ) -> bytes:
        framed = self._end_item("completed")
        item = self._open = _Item(kind, new_id(prefix), len(self._output), call=call)
        item.is_silent = call is not None and self._writer.is_told_whole(call.name)
        item.parts = _delta_parts(item)
        framed += self._event(
            "response.output_item.added",
            output_index=item.index,
            item=self._written(item, "in_progress"),
        )
        if call is None:
            framed += self._part_event("response.content_part.added", item, "", [])
        return framed

    def _end_item(self, status: ItemStatus) -> bytes:
        """End what is open, if anything is."""
        item = self._open
        if item is None:
            return b""
        self._open = None
        written = self._written(item, status)
        self._output.append(written)
        framed = self._end_text(item) if item.call is None else self._end_call(written, item)
        return framed + self._event(
            "response.output_item.done", output_index=item.index, item=written
        )

    def _end_text(self, item: _Item) -> bytes:
        is_text = item.kind is TextDelta
        framed = self._event(
            "response.output_text.done" if is_text else "response.reasoning_text.done",
            item_id=item.id,
            output_index=item.index,
            content_index=0,
            text=item.text,
            logprobs=item.logprobs if is_text else UNSET,
        )
        return framed + self._part_event(
            "response.content_part.done", item, item.text, item.logprobs
        )

    def _end_call(self, written: OutputItem, item: _Item) -> bytes:
        where = {"item_id": item.id, "output_index": item.index}
        if isinstance(written, CustomToolCallItem):
            delta = self._event(
                "response.custom_tool_call_input.delta", delta=written.input, **where
            )
            return delta + self._event(
                "response.custom_tool_call_input.done", input=written.input, **where
            )
        if isinstance(written, ToolSearchCallItem):
            return b""
        assert isinstance(written, FunctionCallItem)
        return self._event(
            "response.function_call_arguments.done",
            arguments=written.arguments,
            name=written.name,
            **where,
        )

    def _part_event(self, kind: str, item: _Item, text: str, logprobs: list[TokenLogprob]) -> bytes:
        is_text = item.kind is TextDelta
        part = OutputText(text=text, logprobs=logprobs) if is_text else ReasoningText(text=text)
        return self._event(
            kind, item_id=item.id, output_index=item.index, content_index=0, part=part
        )

    def _written(self, item: _Item, status: ItemStatus) -> OutputItem:
        if item.call is not None:
            item.call.arguments = item.text
            return self._writer.call(item.id, item.call, status)
        if item.kind is ReasoningDelta:
            return self._writer.reasoning(item.id, item.text, status)
        return self._writer.message(item.id, item.text, item.logprobs, status)

    def _end(self, choice: Choice) -> bytes:
        framed = b""
        if self._open is None and not self._output:
            framed = self._begin_item(TextDelta, "msg")  # an answer of no text is a message, too
        # A call that is complete has ended before.
        is_call = self._open is not None and self._open.call is not None
        is_cut = is_call or choice.finish_reason is FinishReason.LENGTH
        return framed + self._end_item("incomplete" if is_cut else "completed")

    def _event(self, kind: str, **fields: object) -> bytes:
        number = self._num_events
        self._num_events = number + 1
        event = ResponsesEvent(type=kind, sequence_number=number, **fields)  # type: ignore[arg-type]
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode(event))


def _delta_parts(item: _Item) -> tuple[bytes, bytes, bytes]:
    """Return what stands around the number and the text of an event that an item grows by."""
    if item.kind is TextDelta:
        name, content = "response.output_text.delta", b',"content_index":0'
    elif item.kind is ReasoningDelta:
        name, content = "response.reasoning_text.delta", b',"content_index":0'
    else:
        name, content = "response.function_call_arguments.delta", b""
    head = b'event: %b\ndata: {"type":"%b","sequence_number":' % (name.encode(), name.encode())
    middle = b',"output_index":%d,"item_id":"%b"%b,"delta":' % (
        item.index,
        item.id.encode(),
        content,
    )
    tail = b',"logprobs":[]}\n\n' if item.kind is TextDelta else b"}\n\n"
    return head, middle, tail
