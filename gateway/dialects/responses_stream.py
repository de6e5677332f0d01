"""OpenAI's Responses as events: what each item grows by, and all of it at its end.

The last event has the whole answer once more. Called through responses_answer.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from backend.wire.messages import FinishReason
from gateway.answer_events import (
    AnswerEvent,
    ArgumentsDelta,
    CallBegin,
    CallEnd,
    ReasoningDelta,
    TextDelta,
)
from gateway.answers.choice import Choice, Token
from gateway.answers.whole_answer import Call
from gateway.dialects.chat_logprobs import ContentTokens
from gateway.errors import ApiError
from gateway.schema.chat import TokenLogprob
from gateway.schema.responses import (
    CustomToolCallItem,
    FunctionCallItem,
    ItemStatus,
    ModelResponse,
    OutputItem,
    OutputText,
    ReasoningText,
    ResponseFault,
    ResponsesEvent,
)
from gateway.schema.usage import Usage

if TYPE_CHECKING:
    pass

from gateway.dialects.responses_items import ItemWriter, ended, new_id

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Item:
    """An item of a stream that has begun and not ended; call: of a call."""

    kind: type[TextDelta] | type[ReasoningDelta] | type[CallBegin]
    id: str
    index: int
    pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    call: Call | None = None

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

    def template(self, choice: Choice) -> "PlainText | None":
        """Return what writes a piece of text."""
        return None if self._writer.tells_logprobs else PlainText(self)

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
                    framed += self.add_text(text, told)
                    told = []
                case ReasoningDelta(text):
                    framed += self._add_reasoning(text)
                case CallBegin():
                    framed += self._begin_call(piece)
                case ArgumentsDelta(_, text):
                    framed += self._add_arguments(text)
                case CallEnd():
                    framed += self._end_item("completed")
        if choice.finish_reason is not None:
            framed += self._end(choice)
        return framed

    def add_text(self, text: str, logprobs: list[TokenLogprob]) -> bytes:
        """Write more of what the model says."""
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

    def add_plain_text(self, text: str) -> bytes:
        """Do the same for text without log-probabilities: most events are of this kind."""
        item = self._open
        if item is None or item.kind is not TextDelta:
            return self.add_text(text, [])
        item.pieces.append(text)
        number = self._num_events
        self._num_events = number + 1
        return b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",' + (
            b'"sequence_number":%d,"output_index":%d,"item_id":"%b","content_index":0,"delta":%b,'
            b'"logprobs":[]}\n\n' % (number, item.index, item.id.encode(), _encode(text))
        )

    def finish(self, usage: Usage) -> bytes:
        """Tell the whole answer."""
        assert self._choice is not None
        whole = ended(self._base, self._choice, self._output, usage)
        return self._event(f"response.{whole.status}", response=whole)

    def fail(self, error: ApiError) -> bytes:
        """Tell that the answer broke off."""
        fault = ResponseFault(error.code or "server_error", error.message)
        failed = msgspec.structs.replace(
            self._base, status="failed", error=fault, output=self._output
        )
        return self._event("response.failed", response=failed)

    def _add_reasoning(self, text: str) -> bytes:
        framed = b"" if self._is_open(ReasoningDelta) else self._begin_item(ReasoningDelta, "rs")
        return framed + self._grow("response.reasoning_text.delta", text, content_index=0)

    def _begin_call(self, piece: CallBegin) -> bytes:
        return self._begin_item(CallBegin, "fc", Call(piece.id, piece.name))

    def _add_arguments(self, text: str) -> bytes:
        item = self._open
        assert item is not None and item.call is not None
        item.call.arguments += text
        if self._writer.tools.is_custom(item.call.name):
            return b""  # only all of them are its input
        return self._grow("response.function_call_arguments.delta", text)

    def _grow(self, kind: str, text: str, content_index: int | None = None) -> bytes:
        item = self._open
        assert item is not None
        item.pieces.append(text)
        return self._event(
            kind,
            item_id=item.id,
            output_index=item.index,
            content_index=UNSET if content_index is None else content_index,
            delta=text,
        )

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


class PlainText:
    """Writes pieces of text that are no more than text."""

    def __init__(self, stream: ResponsesStream) -> None:
        self._stream = stream

    def event(self, text: str) -> bytes:
        """Return the framed event."""
        return self._stream.add_plain_text(text)
