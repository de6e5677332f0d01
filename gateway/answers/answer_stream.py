"""A streamed answer: text becomes events, and events the framed bytes of a dialect, at once.

Owns the order of things for each choice. Must not know what a dialect writes. Fed by a Generation,
in the event loop, for every token.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.answer_events import AnswerEvent, TextDelta
from gateway.answers.choice import Choice, Token
from gateway.answers.generation import Generation
from gateway.answers.parsers import AnswerParser
from gateway.answers.sse import EventQueue
from gateway.errors import ApiError
from gateway.schema.usage import Usage


class TextTemplate(Protocol):
    """What writes a piece of text, and no more, in a dialect."""

    def event(self, text: str) -> bytes:
        """Return the framed event."""


class StreamForm(Protocol):
    """What the stream of one answer looks like in a dialect; all bytes are framed.

    media_type: of the stream. ping: what keeps a silent stream open; empty for nothing.
    usage: returns the token counts so far; set before anything is asked.
    """

    media_type: str
    ping: bytes
    usage: Callable[[], Usage]

    def begin(self, choice: Choice) -> bytes:
        """Return what comes before the first piece of a choice."""

    def template(self, choice: Choice) -> TextTemplate | None:
        """Return what says a piece of text and no more; None if pieces tell more than text.

        Asked once a choice, after begin(), where all text of it is simply what is said.
        """

    def pieces(
        self, choice: Choice, events: Sequence[AnswerEvent], tokens: Sequence[Token]
    ) -> bytes:
        """Return the next pieces of a choice; with finish_reason set, its end as well.

        tokens: to be told of, whether or not they are text yet; those of the prompt first.
        """

    def finish(self, usage: Usage) -> bytes:
        """Return what comes after the last choice's end."""

    def fail(self, error: ApiError) -> bytes:
        """Return what tells that the answer breaks off here."""


class AnswerStream:
    """The sink of a streamed answer, which feeds an EventQueue."""

    def __init__(
        self, form: StreamForm, queue: EventQueue, new_parser: Callable[[], AnswerParser] | None
    ) -> None:
        """new_parser: see parsers.py."""
        self._form = form
        self._queue = queue
        self._new_parser = new_parser
        self._templates: dict[int, TextTemplate | None] = {}  # of choices that have begun
        self._parsers: dict[int, AnswerParser] = {}

    def follow(self, generation: Generation) -> None:
        """Take text of this generation; called before the first write."""
        self._form.usage = generation.usage

    def write(self, choice: Choice, text: str, tokens: Sequence[Token]) -> None:
        """Send what is certain of it."""
        template = self._templates.get(choice.index)
        if template is not None and not tokens and choice.finish_reason is None:
            self._queue.put(template.event(text))  # nearly all text goes this way
            return
        framed = self._begun(choice) if choice.index not in self._templates else b""
        framed += self._form.pieces(choice, self._events(choice, text), tokens)
        if framed:
            self._queue.put(framed)

    def finish(self, usage: Usage) -> None:
        """End the stream."""
        self._queue.end(self._form.finish(usage))

    def fail(self, error: ApiError) -> None:
        """Break the stream off."""
        self._queue.fail(self._form.fail(error))

    def _begun(self, choice: Choice) -> bytes:
        framed = self._form.begin(choice)
        if self._new_parser is not None:
            self._parsers[choice.index] = self._new_parser()
            self._templates[choice.index] = None
        else:
            self._templates[choice.index] = self._form.template(choice)
        return framed

    def _events(self, choice: Choice, text: str) -> Sequence[AnswerEvent]:
        parser = self._parsers.get(choice.index)
        if parser is None:
            return [TextDelta(text)] if text else []
        events = parser.push(text)
        if choice.finish_reason is not None:
            events += parser.flush()
        return events
