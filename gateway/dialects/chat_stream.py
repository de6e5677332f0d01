"""Writes the chunks of a streamed chat, most of them around a text that alone is encoded.

Called by answers/answer_stream.py, through chat.py.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from gateway.answer_events import (
    AnswerEvent,
    ArgumentsDelta,
    CallBegin,
    CallEnd,
    PlainKind,
    TextDelta,
)
from gateway.answers.answer_stream import PieceWriter
from gateway.answers.choice import Choice, Token
from gateway.answers.sse import DONE, PING, ChunkTemplate, event
from gateway.dialects.chat_choices import ChoiceWriter
from gateway.dialects.chat_logprobs import ContentTokens
from gateway.errors import ApiError
from gateway.schema.chat_answer import ChatChunk, ChunkChoice, Delta, FunctionCallDelta
from gateway.schema.usage import Usage


class ChatStream:
    """Writes the chunks of a streamed answer."""

    media_type = "text/event-stream"
    ping = PING
    usage: Callable[[], Usage]

    def __init__(self, base: ChatChunk, writer: ChoiceWriter) -> None:
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
