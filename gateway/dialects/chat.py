"""OpenAI's Chat Completions: what their bodies mean, and what their answers look like.

Whole answers and streams write the same choices out of the same text, calls and logprobs. Must not
know templates, tokens or HTTP. Its types are in schema/chat.py.
"""

import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

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
from gateway.answers.logprobs import prompt_logprobs
from gateway.answers.sse import DONE, PING, ChunkTemplate, event
from gateway.answers.whole_answer import Call, WholeChoice
from gateway.dialects.chat_logprobs import ContentTokens, chat_logprobs
from gateway.dialects.dialect import Dialect
from gateway.errors import ApiError
from gateway.requests.text_request import TextRequest, ToolUse
from gateway.schema.chat import (
    AnswerMessage,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChatRequest,
    ChunkChoice,
    Delta,
    FunctionCallDelta,
    ToolCallDelta,
)
from gateway.schema.completions import PromptLogprob
from gateway.schema.messages import AllowedToolsChoice, FunctionCall, NamedToolChoice, ToolCall
from gateway.schema.usage import Usage
from gateway.service import Service

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer


def read_chat(request: ChatRequest) -> TextRequest:
    """Return what a chat asks for."""
    return TextRequest(
        source=request,
        fields=request,
        max_tokens=request.max_output_tokens,
        num_candidates=request.num_choices,
        logprobs=request.num_logprobs,
        prompt_logprobs=request.prompt_logprobs,
        tools=_tool_use(request),
        max_thought_tokens=request.max_thought_tokens,
        is_streamed=bool(request.stream),
        max_tokens_field=request.max_tokens_field,
    )


def _tool_use(request: ChatRequest) -> ToolUse | None:
    if not request.usable_tools:
        return None
    choice = request.call_choice
    return ToolUse(
        tools=request.usable_tools,
        is_required=request.is_call_required,
        name=choice.function.name if isinstance(choice, NamedToolChoice) else "",
        allows_parallel=request.parallel_tool_calls is not False and not request.is_legacy,
        schema_field="functions[{}].parameters"
        if request.is_legacy
        else "tools[{}].function.parameters",
        allowed=frozenset(choice.names if isinstance(choice, AllowedToolsChoice) else ()),
    )


class ChatAnswer:
    """Writes the answer to one request the way it wants to see it."""

    def __init__(self, request: ChatRequest, service: Service) -> None:
        self._writer = _ChoiceWriter(request, service.tokenizer)
        self._base = ChatChunk(
            id=f"chatcmpl-{secrets.token_hex(16)}",
            created=int(time.time()),
            model=request.model,
            system_fingerprint=service.system_fingerprint,
            choices=[],
            usage=None if request.include_usage else UNSET,
        )

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> ChatCompletion:
        """Return the answer in one piece."""
        base, writer = self._base, self._writer
        return ChatCompletion(
            id=base.id,
            created=base.created,
            model=base.model,
            system_fingerprint=base.system_fingerprint,
            choices=[writer.choice(whole) for whole in choices],
            usage=usage,
            prompt_logprobs=writer.prompt_logprobs(choices[0].tokens),
            prompt_token_ids=writer.prompt_ids(choices[0].choice),
        )

    def stream(self) -> "ChatStream":
        """Return what writes it as chunks."""
        return ChatStream(self._base, self._writer)


class _ChoiceWriter:
    """Writes what whole choices and pieces of them have in common."""

    def __init__(self, request: ChatRequest, tokenizer: "Tokenizer") -> None:
        self.shows_usage = request.include_usage
        self.shows_usage_always = request.has_continuous_usage
        self.shows_ids = bool(request.return_token_ids)
        self.shows_logprobs = request.num_logprobs is not None
        self._request = request
        self._tokenizer = tokenizer

    def choice(self, whole: WholeChoice) -> ChatChoice:
        """Return one answer."""
        calls = [_call(call) for call in whole.calls]
        content = None if calls and not whole.text else whole.text
        tokens = whole.own_tokens
        return ChatChoice(
            index=whole.choice.index,
            message=self._message(content, calls, whole.reasoning),
            logprobs=self.logprobs(ContentTokens().take(whole.events, tokens)),
            finish_reason=self.finish_reason(whole.choice, is_call=whole.ends_in_call) or "",
            stop_reason=whole.choice.stop_reason,
            token_ids=self.token_ids(tokens),
        )

    def _message(self, content: str | None, calls: list[ToolCall], reasoning: str) -> AnswerMessage:
        thought = reasoning or UNSET
        is_legacy = self._request.is_legacy and bool(calls)
        return AnswerMessage(
            content=content,
            reasoning_content=thought,
            reasoning=thought,
            tool_calls=UNSET if is_legacy else calls or UNSET,
            function_call=calls[0].function if is_legacy else UNSET,
        )

    def delta(self, piece: AnswerEvent) -> Delta | None:
        """Return what an event adds to the message; None if it adds nothing."""
        match piece:
            case TextDelta(text):
                return Delta(content=text)
            case ReasoningDelta(text):
                return Delta(reasoning_content=text, reasoning=text)
            case CallBegin(index, id, name):
                return self.call_delta(index, FunctionCallDelta("", name), id)
            case ArgumentsDelta(index, text):
                return self.call_delta(index, FunctionCallDelta(text))
            case _:
                return None

    def call_delta(self, index: int, function: FunctionCallDelta, id: str = "") -> Delta:
        """Return a piece of a call. id: with the first."""
        if self._request.is_legacy:
            return Delta(function_call=function)
        if not id:
            return Delta(tool_calls=[ToolCallDelta(index=index, function=function)])
        call = ToolCallDelta(index=index, id=id, type="function", function=function)
        return Delta(tool_calls=[call])

    def finish_reason(self, choice: Choice, *, is_call: bool) -> str | None:
        """Return why a choice ended: an answer that the model chose to be a call says so."""
        if choice.finish_reason is None:
            return None
        is_named = isinstance(self._request.call_choice, NamedToolChoice)
        if is_call and not is_named and choice.finish_reason is FinishReason.STOP:
            return "function_call" if self._request.is_legacy else "tool_calls"
        return choice.finish_reason.value

    def logprobs(self, tokens: Sequence[Token]) -> ChatLogprobs | None:
        """Return the log-probabilities of some tokens, if they are wanted."""
        wanted = self._request.num_logprobs
        return None if wanted is None else chat_logprobs(tokens, wanted, self._tokenizer)

    def prompt_logprobs(
        self, tokens: Sequence[Token]
    ) -> list[dict[int, PromptLogprob] | None] | UnsetType:
        """Return those of the prompt, if they are wanted."""
        wanted = self._request.prompt_logprobs
        if wanted is None:
            return UNSET
        of_prompt = [token for token in tokens if token.is_prompt]
        return prompt_logprobs(of_prompt, wanted, self._tokenizer)

    def token_ids(self, tokens: Sequence[Token]) -> list[int] | UnsetType:
        """Return the ids of an answer's tokens, if they are wanted."""
        return [token.token_id for token in tokens] if self.shows_ids else UNSET

    def prompt_ids(self, choice: Choice) -> list[int] | UnsetType:
        """Return the ids of the prompt, if they are wanted."""
        return choice.prompt.token_ids if self.shows_ids else UNSET


class ChatStream:
    """Writes the chunks of a streamed answer."""

    media_type = "text/event-stream"
    ping = PING
    usage: Callable[[], Usage]

    def __init__(self, base: ChatChunk, writer: _ChoiceWriter) -> None:
        self._base = base
        self._writer = writer
        self._is_plain = not (
            writer.shows_ids or writer.shows_logprobs or writer.shows_usage_always
        )
        self._arguments: dict[int, ChunkTemplate] = {}  # by choice: of its last call
        self._calling: set[int] = set()  # choices whose last call is complete
        self._contents: dict[int, ContentTokens] = defaultdict(ContentTokens)

    def begin(self, choice: Choice) -> bytes:
        """Say who speaks."""
        ids = self._writer.prompt_ids(choice)
        delta = Delta(role="assistant", content="", refusal=None)
        return self._event(ChunkChoice(index=choice.index, delta=delta, prompt_token_ids=ids))

    def writer(self, choice: Choice, kind: PlainKind) -> PieceWriter | None:
        """Return what writes pieces of a kind as chunks that are encoded but for their text."""
        if not self._is_plain:
            return None
        if kind is ArgumentsDelta:
            return lambda text: self._arguments[choice.index].event(text)
        is_text = kind is TextDelta
        delta = Delta(content="") if is_text else Delta(reasoning_content="", reasoning="")
        fields = ("content",) if is_text else ("reasoning_content", "reasoning")
        return self._template(choice, delta, *fields).event

    def _template(self, choice: Choice, delta: Delta, *fields: str) -> ChunkTemplate:
        return ChunkTemplate(self._chunk(ChunkChoice(index=choice.index, delta=delta)), *fields)

    def pieces(
        self, choice: Choice, events: Sequence[AnswerEvent], tokens: Sequence[Token]
    ) -> bytes:
        """Write a chunk for each event; what is told of tokens comes with the first.

        Log-probabilities wait for the text that they are of.
        """
        framed = b""
        told = [token for token in tokens if not token.is_prompt]
        self._note_calls(choice, events)
        scored: list[Token] = []
        if self._writer.shows_logprobs:
            scored = self._contents[choice.index].take(events, told)
        deltas = [
            (piece, delta) for piece in events if (delta := self._writer.delta(piece)) is not None
        ]
        if not deltas and (scored or (told and self._writer.shows_ids)):
            # Text is held back, but what is told of its tokens is not.
            deltas = [(TextDelta(""), Delta(content=""))]
        for position, (piece, delta) in enumerate(deltas):
            is_first = position == 0
            framed += self._piece(
                choice, piece, delta, told if is_first else [], scored if is_first else []
            )
        if choice.finish_reason is None:
            return framed
        is_call = choice.index in self._calling
        last = ChunkChoice(
            index=choice.index,
            delta=Delta(),
            finish_reason=self._writer.finish_reason(choice, is_call=is_call),
            stop_reason=choice.stop_reason,
        )
        return framed + self._event(last)

    def finish(self, usage: Usage) -> bytes:
        """Write the token counts if they are wanted."""
        if not self._writer.shows_usage:
            return DONE
        chunk = msgspec.structs.replace(self._base, usage=usage)
        return event(msgspec.json.encode(chunk)) + DONE

    def fail(self, error: ApiError, request_id: str) -> bytes:
        """Write an error object."""
        return event(error.body())

    def _piece(
        self,
        choice: Choice,
        piece: AnswerEvent,
        delta: Delta,
        tokens: Sequence[Token],
        scored: Sequence[Token],
    ) -> bytes:
        """tokens: whose ids are told; scored: whose log-probabilities are."""
        return self._event(
            ChunkChoice(
                index=choice.index,
                delta=delta,
                logprobs=self._writer.logprobs(scored) if scored else None,
                token_ids=self._writer.token_ids(tokens),
            )
        )

    def _note_calls(self, choice: Choice, events: Sequence[AnswerEvent]) -> None:
        for piece in events:
            if isinstance(piece, CallBegin):
                self._calling.discard(choice.index)
                if self._is_plain:
                    delta = self._writer.call_delta(piece.index, FunctionCallDelta(""))
                    self._arguments[choice.index] = self._template(choice, delta, "arguments")
            elif isinstance(piece, CallEnd):
                self._calling.add(choice.index)

    def _event(self, choice: ChunkChoice) -> bytes:
        chunk = self._chunk(choice)
        if self._writer.shows_usage_always:
            chunk = msgspec.structs.replace(chunk, usage=self.usage())
        return event(msgspec.json.encode(chunk))

    def _chunk(self, choice: ChunkChoice) -> ChatChunk:
        return msgspec.structs.replace(self._base, choices=[choice])


CHAT = Dialect(msgspec.json.Decoder(ChatRequest), read_chat, ChatAnswer)


def _call(call: Call) -> ToolCall:
    return ToolCall(id=call.id, function=FunctionCall(call.name, call.arguments))
