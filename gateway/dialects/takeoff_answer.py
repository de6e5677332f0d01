"""Takeoff's answers, whole and as server-sent events whose data is the text itself.

Must not know templates, tokens or HTTP.
"""

import re
from collections.abc import Callable, Sequence

import msgspec

from gateway.answer_events import AnswerEvent, PlainKind, TextDelta
from gateway.answers.answer_stream import PieceWriter
from gateway.answers.choice import Choice, Token
from gateway.answers.sse import PING, event
from gateway.answers.whole_answer import WholeChoice
from gateway.dialects.error_forms import takeoff_error
from gateway.errors import ApiError
from gateway.schema.takeoff import TakeoffMetadata, TakeoffRequest, TakeoffText
from gateway.schema.usage import Usage
from gateway.service import Service

# What ends a line of an event: no data can hold one, but an event may have several lines of it.
_LINE_END = re.compile(r"\r\n|\n|\r")


class TakeoffAnswer:
    """Writes the answer to one request."""

    def __init__(self, request: TakeoffRequest, service: Service) -> None:
        self._is_one = isinstance(request.text, str)
        self._has_metadata = bool(request.return_metadata)

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> TakeoffText:
        """Return the answer in one piece."""
        texts = [whole.text for whole in choices]
        answer = TakeoffText(text=texts[0] if self._is_one else texts)
        if not self._has_metadata:
            return answer
        return msgspec.structs.replace(answer, metadata=_metadata(usage))

    def stream(self) -> "TakeoffStream":
        """Return what writes it as events."""
        return TakeoffStream(is_one=self._is_one, has_metadata=self._has_metadata)


class TakeoffStream:
    """Writes the events of a streamed answer. Of several prompts, an event's id is whose it is."""

    media_type = "text/event-stream"
    ping = PING
    usage: Callable[[], Usage]

    def __init__(self, *, is_one: bool, has_metadata: bool) -> None:
        self._is_one = is_one
        self._has_metadata = has_metadata

    def begin(self, choice: Choice) -> bytes:
        """Nothing comes before the text."""
        return b""

    def writer(self, choice: Choice, kind: PlainKind = TextDelta) -> PieceWriter:
        """Return what writes a piece of text."""
        return TextEvent("" if self._is_one else f"id: {choice.index}\n").event

    def pieces(
        self, choice: Choice, events: Sequence[AnswerEvent], tokens: Sequence[Token]
    ) -> bytes:
        """Write an event for each piece."""
        writer = self.writer(choice)
        texts = [piece.text for piece in events if isinstance(piece, TextDelta)]
        return b"".join(writer(text) for text in texts if text)

    def finish(self, usage: Usage) -> bytes:
        """Write the token counts if they are wanted: the end of the stream says the rest."""
        if not self._has_metadata:
            return b""
        return event(msgspec.json.encode(_metadata(usage)), "metadata")

    def fail(self, error: ApiError, request_id: str) -> bytes:
        """Write an error object, in an event of its own kind: data of others is text."""
        return event(takeoff_error(error), "error")


class TextEvent:
    """Writes pieces of text as events. head: what each begins with, its own line."""

    def __init__(self, head: str) -> None:
        self._head = f"{head}data: "

    def event(self, text: str) -> bytes:
        """Return the event."""
        if "\n" in text or "\r" in text:
            text = "\ndata: ".join(_LINE_END.split(text))
        return f"{self._head}{text}\n\n".encode()


def _metadata(usage: Usage) -> TakeoffMetadata:
    return TakeoffMetadata(
        prompt_tokens=usage.prompt_tokens, generated_tokens=usage.completion_tokens
    )
