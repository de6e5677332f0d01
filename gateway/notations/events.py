"""What an answer is made of, in the order in which a model writes it.

One vocabulary for whole and streamed answers in every dialect. Knows no notation and no dialect.
Made by parser.py.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of what the user is told."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegins:
    """A tool is called; index counts the calls of an answer from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """More of a call's arguments: JSON, whatever the notation."""

    index: int
    arguments: str


@dataclass(frozen=True, slots=True)
class CallEnds:
    """The arguments are complete. A call that is cut short has no such event."""

    index: int


Event = TextDelta | ReasoningDelta | CallBegins | ArgumentsDelta | CallEnds


@dataclass(frozen=True, slots=True)
class CompleteCall:
    """A call with all of its arguments, as JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """A whole answer: text, thoughts, and the calls that are complete."""

    text: str
    reasoning: str
    calls: list[CompleteCall]


def assembled(events: list[Event]) -> ParsedAnswer:
    """Put a whole answer together; calls that are not complete are left out."""
    begun: dict[int, CallBegins] = {}
    arguments: dict[int, list[str]] = {}
    complete: list[int] = []
    texts: list[str] = []
    thoughts: list[str] = []
    for event in events:
        match event:
            case TextDelta(text):
                texts.append(text)
            case ReasoningDelta(text):
                thoughts.append(text)
            case CallBegins(index):
                begun[index] = event
                arguments[index] = []
            case ArgumentsDelta(index, delta):
                arguments[index].append(delta)
            case CallEnds(index):
                complete.append(index)
    calls = [
        CompleteCall(begun[index].id, begun[index].name, "".join(arguments[index]))
        for index in complete
    ]
    return ParsedAnswer("".join(texts), "".join(thoughts), calls)
