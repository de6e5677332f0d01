"""A streamed answer: text becomes events, and events the framed bytes of a dialect, at once.

Owns the order of things for each choice. Must not know what a dialect writes. Fed by a Generation,
in the event loop, for every token.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.answer_events import AnswerEvent, PlainKind, TextDelta
from gateway.answers.choice import Choice, Token
from gateway.answers.generation import Generation
from gateway.answers.parsers import AnswerParser
from gateway.answers.sse import EventQueue
from gateway.errors import ApiError
from gateway.schema.usage import Usage

# Writes a piece that is text and no more as a framed event.
PieceWriter = Callable[[str], bytes]


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

    def writer(self, choice: Choice, kind: PlainKind) -> PieceWriter | None:
        """Return what writes pieces of a kind that are text and no more; None if they tell more;
        whether they do is the same for all kinds.

        Asked once a choice and kind, after begin(). Between such pieces others come by pieces().
        """

    def pieces(
        self, choice: Choice, events: Sequence[AnswerEvent], tokens: Sequence[Token]
    ) -> bytes:
        """Return the next pieces of a choice; with finish_reason set, its end as well.

        tokens: to be told of, whether or not they are text yet; those of the prompt first.
        """

    def finish(self, usage: Usage) -> bytes:
        """Return what comes after the last choice's end."""

    def fail(self, error: ApiError, request_id: str) -> bytes:
        """Return what tells that the answer breaks off here. request_id: the exchange's."""


class AnswerStream:
    """The sink of a streamed answer, which feeds an EventQueue."""

    def __init__(
        self,
        form: StreamForm,
        queue: EventQueue,
        new_parser: Callable[[], AnswerParser] | None,
        request_id: str = "",
    ) -> None:
        """new_parser: see parsers.py. request_id: for who asks why it broke off."""
        self._form = form
        self._queue = queue
        self._new_parser = new_parser
        self._request_id = request_id
        self._begun: dict[int, _BegunChoice] = {}

    def follow(self, generation: Generation) -> None:
        """Take text of this generation; called before the first write."""
        self._form.usage = generation.usage

    def write(self, choice: Choice, text: str, tokens: Sequence[Token]) -> None:
        """Send what is certain of it."""
        begun = self._begun.get(choice.index)
        if begun is not None and begun.text is not None:
            if not tokens and choice.finish_reason is None:  # nearly all text goes this way
                kind = TextDelta if begun.parser is None else begun.parser.pass_on(text)
                if kind is not None:
                    write = begun.writers.get(kind) or begun.writer(kind)
                    if framed := write(text):
                        self._queue.put(framed)
                    return
        framed = b""
        if begun is None:
            framed, begun = self._begin(choice)
        self._send(framed + self._form.pieces(choice, begun.events(choice, text), tokens))

    def finish(self, usage: Usage) -> None:
        """End the stream."""
        self._queue.end(self._form.finish(usage))

    def fail(self, error: ApiError) -> None:
        """Break the stream off."""
        self._queue.fail(self._form.fail(error, self._request_id))

    def _begin(self, choice: Choice) -> tuple[bytes, "_BegunChoice"]:
        framed = self._form.begin(choice)
        parser = self._new_parser() if self._new_parser is not None else None
        begun = self._begun[choice.index] = _BegunChoice(self._form, choice, parser)
        return framed, begun

    def _send(self, framed: bytes) -> None:
        if framed:
            self._queue.put(framed)


class _BegunChoice:
    """A choice of which something was written. text: what writes its text; None where text has to
    be told with more. writers: of pieces of the kinds that came."""

    __slots__ = ("_choice", "_form", "parser", "text", "writers")

    def __init__(self, form: StreamForm, choice: Choice, parser: AnswerParser | None) -> None:
        self.parser = parser
        self.text = form.writer(choice, TextDelta)
        self._form = form
        self._choice = choice
        self.writers: dict[PlainKind, PieceWriter] = {}
        if self.text is not None:
            self.writers[TextDelta] = self.text

    def writer(self, kind: PlainKind) -> PieceWriter:
        """Return what writes pieces of a kind, the first of which has come."""
        writer = self._form.writer(self._choice, kind)
        assert writer is not None, "it writes text, so it writes the others"
        self.writers[kind] = writer
        return writer

    def events(self, choice: Choice, text: str) -> Sequence[AnswerEvent]:
        """Return what a text consists of."""
        if self.parser is None:
            return [TextDelta(text)] if text else []
        events = self.parser.push(text)
        if choice.finish_reason is not None:
            events += self.parser.flush(is_cut=choice.is_cut_short)
        return events
