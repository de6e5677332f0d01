"""What answers of a chat look like: whole, and as the chunks of a stream.

Both write the same choices out of the same text, calls and logprobs. Must not know messages,
templates or HTTP. Called by the chat endpoint.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from backend.wire.messages import FinishReason
from gateway.answers.chat_logprobs import chat_logprobs
from gateway.answers.choice import Choice, Token
from gateway.answers.delivery import Collector
from gateway.answers.generation import Generation
from gateway.answers.logprobs import prompt_logprobs
from gateway.answers.sse import ChunkTemplate, EventQueue, event
from gateway.answers.tools import ToolDelta, ToolParser
from gateway.errors import ApiError
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
from gateway.schema.messages import FunctionCall, NamedToolChoice, ToolCall
from gateway.schema.usage import Usage

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer


class ChatFormatter:
    """Writes choices, and pieces of them, the way a request wants to see them."""

    def __init__(self, request: ChatRequest, tokenizer: "Tokenizer") -> None:
        self.include_usage = request.include_usage
        self.has_continuous_usage = request.has_continuous_usage
        self.shows_ids = bool(request.return_token_ids)
        self.is_plain = not (self.shows_ids or self.has_continuous_usage or request.usable_tools)
        self._request = request
        self._tokenizer = tokenizer

    def parser(self) -> ToolParser | None:
        """Return what finds the calls in one choice; None where there can be none."""
        if not self._request.usable_tools:
            return None
        return ToolParser(allows_parallel=self._request.parallel_tool_calls is not False)

    def finish_reason(self, choice: Choice, parser: ToolParser | None) -> str | None:
        """Return why a choice ended: an answer that the model chose to be a call says so."""
        if choice.finish_reason is None:
            return None
        is_call = parser is not None and parser.num_calls > 0
        is_named = isinstance(self._request.tool_choice, NamedToolChoice)
        if is_call and not is_named and choice.finish_reason is FinishReason.STOP:
            return "tool_calls"
        return choice.finish_reason.value

    def logprobs(self, tokens: Sequence[Token]) -> ChatLogprobs | None:
        """Return the log-probabilities of some tokens, if they are wanted."""
        wanted = self._request.num_logprobs
        return None if wanted is None else chat_logprobs(tokens, wanted, self._tokenizer)

    def response(
        self, base: ChatChunk, choices: Sequence[Choice], collector: Collector
    ) -> ChatCompletion:
        """Return the whole answer."""
        assert collector.usage is not None
        wanted = self._request.prompt_logprobs
        of_prompt = [token for token in collector.tokens[0] if token.is_prompt]
        return ChatCompletion(
            id=base.id,
            created=base.created,
            model=base.model,
            system_fingerprint=base.system_fingerprint,
            choices=[self._choice(choice, collector) for choice in choices],
            usage=collector.usage,
            prompt_logprobs=UNSET
            if wanted is None
            else prompt_logprobs(of_prompt, wanted, self._tokenizer),
            prompt_token_ids=choices[0].prompt.token_ids if self.shows_ids else UNSET,
        )

    def _choice(self, choice: Choice, collector: Collector) -> ChatChoice:
        text = "".join(collector.texts[choice.index])
        tokens = [token for token in collector.tokens[choice.index] if not token.is_prompt]
        parser = self.parser()
        pieces = [text] if parser is None else [*parser.push(text), *parser.flush()]
        content = "".join(piece for piece in pieces if isinstance(piece, str))
        calls = _calls([piece for piece in pieces if isinstance(piece, ToolDelta)])
        return ChatChoice(
            index=choice.index,
            message=AnswerMessage(
                content=None if calls and not content else content, tool_calls=calls or UNSET
            ),
            logprobs=self.logprobs(tokens),
            finish_reason=self.finish_reason(choice, parser) or "",
            stop_reason=choice.stop_reason,
            token_ids=[token.token_id for token in tokens] if self.shows_ids else UNSET,
        )


class ChatChunks:
    """The sink of a streamed answer: text becomes framed chunks at once."""

    generation: Generation

    def __init__(self, base: ChatChunk, formatter: ChatFormatter, queue: EventQueue) -> None:
        self._base = base
        self._formatter = formatter
        self._queue = queue
        self._templates: dict[int, ChunkTemplate] = {}  # by choice, as are the next
        self._parsers: dict[int, ToolParser | None] = {}

    def write(self, choice: Choice, text: str, tokens: Sequence[Token]) -> None:
        """Send a chunk: around its text only, unless the request wants to see more."""
        if choice.index not in self._parsers:
            self._begin(choice)
        if self._formatter.is_plain and not tokens:
            if text:
                self._queue.put(self._template(choice.index).event(text))
        else:
            self._write_pieces(choice, text, tokens)
        if choice.finish_reason is not None:
            reason = self._formatter.finish_reason(choice, self._parsers[choice.index])
            last = ChunkChoice(
                index=choice.index,
                delta=Delta(),
                finish_reason=reason,
                stop_reason=choice.stop_reason,
            )
            self._put(last)

    def finish(self, usage: Usage) -> None:
        """Send the token counts if they are wanted, and end the stream."""
        if self._formatter.include_usage:
            chunk = msgspec.structs.replace(self._base, usage=usage)
            self._queue.put(event(msgspec.json.encode(chunk)))
        self._queue.end()

    def fail(self, error: ApiError) -> None:
        """Break the stream off with an error event."""
        self._queue.fail(error.body())

    def _begin(self, choice: Choice) -> None:
        self._parsers[choice.index] = self._formatter.parser()
        ids = choice.prompt.token_ids if self._formatter.shows_ids else UNSET
        delta = Delta(role="assistant", content="", refusal=None)
        self._put(ChunkChoice(index=choice.index, delta=delta, prompt_token_ids=ids))

    def _write_pieces(self, choice: Choice, text: str, tokens: Sequence[Token]) -> None:
        parser = self._parsers[choice.index]
        pieces: list[str | ToolDelta] = [text] if text else []
        if parser is not None:
            pieces = parser.push(text)
            if choice.finish_reason is not None:
                pieces += parser.flush()
        if not pieces and tokens:
            pieces = [""]  # text is held back, but what is told of its tokens is not
        for position, piece in enumerate(pieces):
            told = [token for token in tokens if not token.is_prompt] if position == 0 else []
            self._put(
                ChunkChoice(
                    index=choice.index,
                    delta=_delta(piece),
                    logprobs=self._formatter.logprobs(told) if told else None,
                    token_ids=[token.token_id for token in told]
                    if self._formatter.shows_ids
                    else UNSET,
                )
            )

    def _put(self, choice: ChunkChoice) -> None:
        chunk = msgspec.structs.replace(self._base, choices=[choice])
        if self._formatter.has_continuous_usage:
            chunk = msgspec.structs.replace(chunk, usage=self.generation.usage())
        self._queue.put(event(msgspec.json.encode(chunk)))

    def _template(self, index: int) -> ChunkTemplate:
        if index not in self._templates:
            choice = ChunkChoice(index=index, delta=Delta(content=""))
            chunk = msgspec.structs.replace(self._base, choices=[choice])
            self._templates[index] = ChunkTemplate(chunk, "content")
        return self._templates[index]


def _delta(piece: str | ToolDelta) -> Delta:
    if isinstance(piece, str):
        return Delta(content=piece)
    if piece.id is None or piece.name is None:
        function = FunctionCallDelta(piece.arguments)
        return Delta(tool_calls=[ToolCallDelta(index=piece.index, function=function)])
    function = FunctionCallDelta(piece.arguments, piece.name)
    call = ToolCallDelta(index=piece.index, id=piece.id, type="function", function=function)
    return Delta(tool_calls=[call])


def _calls(deltas: Sequence[ToolDelta]) -> list[ToolCall]:
    """Put the calls of a choice together from their pieces."""
    firsts = [delta for delta in deltas if delta.id is not None]
    return [
        ToolCall(
            id=first.id or "",
            function=FunctionCall(
                first.name or "",
                "".join(delta.arguments for delta in deltas if delta.index == first.index),
            ),
        )
        for first in firsts
    ]
