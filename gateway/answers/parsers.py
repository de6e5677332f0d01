"""What finds the parts of an answer in its text: calls, thoughts and what the model says.

One parser a choice; streamed and whole answers go through the same. Called by delivery.py.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.answer_events import AnswerEvent, ArgumentsDelta, CallBegin, TextDelta
from gateway.answers.tools import ToolDelta, ToolParser
from gateway.requests.text_request import TextRequest


class AnswerParser(Protocol):
    """Splits the text of a choice as it arrives; how it was cut into pieces changes nothing."""

    def push(self, text: str) -> list[AnswerEvent]:
        """Take more text; return what is certain."""

    def flush(self) -> list[AnswerEvent]:
        """Return what was held back: no more text will come."""


def parsers_for(request: TextRequest) -> Callable[[], AnswerParser] | None:
    """Return what makes a parser for each choice; None where all text is simply what is said."""
    tools = request.tools
    if tools is None:
        return None
    return lambda: _CallParser(ToolParser(allows_parallel=tools.allows_parallel))


class _CallParser:
    """Tells what a ToolParser finds."""

    def __init__(self, parser: ToolParser) -> None:
        self._parser = parser

    def push(self, text: str) -> list[AnswerEvent]:
        return _events(self._parser.push(text))

    def flush(self) -> list[AnswerEvent]:
        return _events(self._parser.flush())


def _events(pieces: Sequence[str | ToolDelta]) -> list[AnswerEvent]:
    events: list[AnswerEvent] = []
    for piece in pieces:
        if isinstance(piece, str):
            events.append(TextDelta(piece))
            continue
        if piece.id is not None:
            events.append(CallBegin(piece.index, piece.id, piece.name or ""))
        if piece.arguments:
            events.append(ArgumentsDelta(piece.index, piece.arguments))
    return events
