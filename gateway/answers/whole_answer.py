"""An answer in one piece: what was streamed into it, put together by choice.

Must not know how a dialect writes it. Filled by a Generation, read by the dialects.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from gateway.answer_events import (
    AnswerEvent,
    ArgumentsDelta,
    CallBegin,
    CallEnd,
    ReasoningDelta,
    TextDelta,
)
from gateway.answers.choice import Choice, Token
from gateway.answers.parsers import AnswerParser
from gateway.errors import ApiError
from gateway.schema.usage import Usage
from gateway.telemetry.exchange import Timings


class Collector:
    """The sink of an answer in one piece: texts and tokens by choice.

    done: nothing more comes; with neither usage nor error, because nobody waits for it.
    """

    def __init__(self, num_choices: int) -> None:
        self.texts: list[list[str]] = [[] for _ in range(num_choices)]
        self.tokens: list[list[Token]] = [[] for _ in range(num_choices)]
        self.usage: Usage | None = None
        self.error: ApiError | None = None
        self.done = asyncio.Event()

    def write(self, choice: Choice, text: str, tokens: Sequence[Token]) -> None:
        """Keep it."""
        self.texts[choice.index].append(text)
        if tokens:
            self.tokens[choice.index].extend(tokens)

    def finish(self, usage: Usage) -> None:
        """All is there."""
        self.usage = usage
        self.done.set()

    def fail(self, error: ApiError) -> None:
        """Nothing more comes."""
        self.error = error
        self.done.set()


@dataclass(slots=True)
class Call:
    """A call of a function. arguments: JSON."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class WholeChoice:
    """One choice that has ended. tokens: those of its prompt first, if they are listed.

    events: all of it, as it came; text, reasoning and calls: the same, put together. A call that is
    cut short is not there. is_call_cut: there was one. timings: of the whole request.
    """

    choice: Choice
    tokens: Sequence[Token]
    events: list[AnswerEvent] = field(default_factory=list)
    text: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    is_call_cut: bool = False
    timings: Timings = field(default_factory=Timings)

    @property
    def own_tokens(self) -> list[Token]:
        """The tokens of the answer."""
        return [token for token in self.tokens if not token.is_prompt]

    @property
    def ends_in_call(self) -> bool:
        """Whether what it ends with is a call."""
        return bool(self.calls) and not self.is_call_cut

    def add(self, events: Iterable[AnswerEvent]) -> None:
        """Put what comes next at its place."""
        for event in events:
            self.events.append(event)
            match event:
                case TextDelta(text):
                    self.text += text
                case ReasoningDelta(text):
                    self.reasoning += text
                case CallBegin(_, id, name):
                    self.calls.append(Call(id, name))
                case ArgumentsDelta(index, text):
                    self.calls[index].arguments += text


def whole_choices(
    choices: Iterable[Choice],
    collector: Collector,
    new_parser: Callable[[], AnswerParser] | None,
) -> list[WholeChoice]:
    """Return all choices of an answer whose Collector is done. new_parser: see parsers.py."""
    return [_whole(choice, collector, new_parser) for choice in choices]


def _whole(
    choice: Choice, collector: Collector, new_parser: Callable[[], AnswerParser] | None
) -> WholeChoice:
    text = "".join(collector.texts[choice.index])
    whole = WholeChoice(choice, collector.tokens[choice.index])
    if new_parser is None:
        whole.add([TextDelta(text)] if text else [])
    else:
        parser = new_parser()
        events = [*parser.push(text), *parser.flush(is_cut=choice.is_cut_short)]
        complete = without_cut_call(events)
        whole.add(complete)
        whole.is_call_cut = len(complete) < len(events)
    return whole


def without_cut_call(events: Sequence[AnswerEvent]) -> Sequence[AnswerEvent]:
    """Return the events of an answer without those of its last call, if that has no end."""
    ended = {event.index for event in events if isinstance(event, CallEnd)}
    return [
        event
        for event in events
        if not isinstance(event, CallBegin | ArgumentsDelta) or event.index in ended
    ]
