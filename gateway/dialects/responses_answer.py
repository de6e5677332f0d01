"""OpenAI's Responses: what answers look like, whole or as events. How requests are read is in
responses.py.

An answer is a list of items: thoughts, messages, calls. A stream tells of each when it begins, what
it grows by, and all of it at its end; the last event has the whole answer once more.
"""

import base64
import secrets
import time
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
from gateway.answers.whole_answer import Call, WholeChoice
from gateway.dialects.chat_logprobs import chat_logprobs
from gateway.dialects.responses_tools import CalledTools, custom_input
from gateway.errors import ApiError
from gateway.schema.chat import TokenLogprob
from gateway.schema.responses import (
    ENCRYPTED_REASONING,
    CustomToolCallItem,
    FunctionCallItem,
    IncompleteDetails,
    InputTokensDetails,
    ItemStatus,
    MessageItem,
    ModelResponse,
    OutputItem,
    OutputText,
    OutputTokensDetails,
    Reasoning,
    ReasoningItem,
    ReasoningText,
    ResponseFault,
    ResponsesEvent,
    ResponsesRequest,
    ResponsesUsage,
    TextFormat,
    TextOptions,
)
from gateway.schema.usage import Usage
from gateway.service import Service

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer

# What begins the thoughts that clients keep for us, who cannot read them.
THOUGHTS = "unisono:"

_encode = msgspec.json.Encoder().encode


class ResponsesAnswer:
    """Writes the answer to one request."""

    def __init__(self, request: ResponsesRequest, service: Service) -> None:
        self._writer = _ItemWriter(request, service.tokenizer)
        text = request.text or TextOptions()
        self._base = ModelResponse(
            id=f"resp_{secrets.token_hex(16)}",
            created_at=int(time.time()),
            status="in_progress",
            instructions=request.instructions,
            max_output_tokens=request.max_output_tokens,
            max_tool_calls=request.max_tool_calls,
            metadata=request.metadata or {},
            model=request.model,
            output=[],
            parallel_tool_calls=request.parallel_tool_calls is not False,
            prompt_cache_key=request.prompt_cache_key,
            reasoning=request.reasoning or Reasoning(),
            safety_identifier=request.safety_identifier,
            temperature=request.temperature,
            text=msgspec.structs.replace(text, format=text.format or TextFormat(type="text")),
            tool_choice="auto" if request.tool_choice is None else request.tool_choice,
            tools=request.tools or [],
            top_logprobs=request.top_logprobs or 0,
            top_p=request.top_p,
            user=request.user,
        )

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> ModelResponse:
        """Return the answer in one piece."""
        return _ended(self._base, choices[0].choice, self._items(choices[0]), usage)

    def stream(self) -> "ResponsesStream":
        """Return what writes it as events."""
        return ResponsesStream(self._base, self._writer)

    def _items(self, whole: WholeChoice) -> list[OutputItem]:
        writer, is_cut = self._writer, whole.choice.finish_reason is FinishReason.LENGTH
        items: list[OutputItem] = []
        if whole.reasoning:
            is_last = not whole.text and not whole.calls
            items.append(writer.reasoning(_new_id("rs"), whole.reasoning, _status(is_cut, is_last)))
        if whole.text or not (whole.calls or whole.reasoning):
            logprobs = writer.logprobs(whole.own_tokens)
            status = _status(is_cut, not whole.calls)
            items.append(writer.message(_new_id("msg"), whole.text, logprobs, status))
        for call in whole.calls:
            status = _status(is_cut, call is whole.calls[-1])
            items.append(writer.call(_new_id("fc"), call, status))
        return items


class _ItemWriter:
    """Writes items, begun ones and complete ones."""

    def __init__(self, request: ResponsesRequest, tokenizer: "Tokenizer") -> None:
        self.tools = CalledTools(request.tools or [])
        self._num_logprobs = request.num_logprobs
        self._tokenizer = tokenizer
        self._is_encrypted = ENCRYPTED_REASONING in (request.include or ())

    @property
    def tells_logprobs(self) -> bool:
        """Whether text has log-probabilities."""
        return self._num_logprobs is not None

    def message(
        self, item_id: str, text: str, logprobs: list[TokenLogprob], status: ItemStatus
    ) -> MessageItem:
        content = [] if status == "in_progress" else [OutputText(text=text, logprobs=logprobs)]
        return MessageItem(id=item_id, status=status, content=content)

    def reasoning(self, item_id: str, text: str, status: ItemStatus) -> ReasoningItem:
        is_begun = status == "in_progress"
        encoded = THOUGHTS + base64.b64encode(text.encode()).decode()
        return ReasoningItem(
            id=item_id,
            status=status,
            content=[] if is_begun else [ReasoningText(text=text)],
            encrypted_content=encoded if self._is_encrypted and not is_begun else UNSET,
        )

    def call(self, item_id: str, call: Call, status: ItemStatus) -> OutputItem:
        name, namespace = self.tools.place(call.name)
        if self.tools.is_custom(call.name):
            text = custom_input(call.arguments)
            return CustomToolCallItem(
                id=item_id, call_id=call.id, name=name, input=text, status=status
            )
        return FunctionCallItem(
            id=item_id,
            call_id=call.id,
            name=name,
            namespace=UNSET if namespace is None else namespace,
            arguments=call.arguments,
            status=status,
        )

    def logprobs(self, tokens: Sequence[Token]) -> list[TokenLogprob]:
        """Return the log-probabilities of an answer's tokens, if they are wanted."""
        if self._num_logprobs is None:
            return []
        return chat_logprobs(tokens, self._num_logprobs, self._tokenizer).content or []


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

    def __init__(self, base: ModelResponse, writer: _ItemWriter) -> None:
        self._base = base
        self._writer = writer
        self._num_events = 0
        self._open: _Item | None = None
        self._output: list[OutputItem] = []
        self._choice: Choice | None = None

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
        told = self._writer.logprobs(tokens)
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
        whole = _ended(self._base, self._choice, self._output, usage)
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
        item = self._open = _Item(kind, _new_id(prefix), len(self._output), call=call)
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


def _ended(
    base: ModelResponse, choice: Choice, output: Sequence[OutputItem], usage: Usage
) -> ModelResponse:
    """Return the whole answer. choice: says how it ended."""
    is_cut = choice.finish_reason is FinishReason.LENGTH
    return msgspec.structs.replace(
        base,
        status="incomplete" if is_cut else "completed",
        completed_at=None if is_cut else int(time.time()),
        incomplete_details=IncompleteDetails("max_output_tokens") if is_cut else None,
        output=list(output),
        usage=_usage(usage),
    )


def _usage(usage: Usage) -> ResponsesUsage:
    details = usage.completion_tokens_details
    return ResponsesUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(usage.prompt_tokens_details.cached_tokens),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(details.reasoning_tokens if details else 0),
        total_tokens=usage.total_tokens,
    )


def _status(is_cut: bool, is_last: bool) -> ItemStatus:
    """Of an answer that was cut short, the last item is incomplete."""
    return "incomplete" if is_cut and is_last else "completed"


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"
