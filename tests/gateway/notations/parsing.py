"""Texts go through a parser, whole or cut."""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, cast

from gateway.answer_events import AnswerEvent, ArgumentsDelta, CallBegin, ReasoningDelta, TextDelta
from gateway.answers.choice import Choice
from gateway.answers.whole_answer import WholeChoice, without_cut_call
from gateway.notations.compiled import CompiledNotation, compiled
from gateway.notations.library import builtin
from gateway.notations.parser import OutputParser


@cache
def notation(calls: str = "hermes", reasoning: str = "") -> CompiledNotation:
    return compiled(builtin(calls), builtin(reasoning) if reasoning else None)


def events_of(
    pieces: Iterable[str],
    notation: CompiledNotation,
    tools: dict[str, Any] | None,
    *,
    is_cut: bool = False,
    **options: Any,
) -> list[AnswerEvent]:
    parser = OutputParser(notation, tools=tools, **options)
    events: list[AnswerEvent] = []
    call = -1
    for piece in pieces:
        kind = None if options.get("tracks_offsets") else parser.pass_on(piece)
        if kind is None:
            told = parser.push(piece)
            call = max([call, *(event.index for event in told if isinstance(event, CallBegin))])
            events += told
        elif kind is ArgumentsDelta:
            events.append(ArgumentsDelta(call, piece))
        else:
            events.append(TextDelta(piece) if kind is TextDelta else ReasoningDelta(piece))
    return events + parser.flush(is_cut=is_cut)


def parse(
    pieces: Iterable[str], notation: CompiledNotation, tools: dict[str, Any] | None, **options: Any
) -> WholeChoice:
    return assembled(events_of(pieces, notation, tools, **options))


def assembled(events: Iterable[AnswerEvent]) -> WholeChoice:
    answer = WholeChoice(cast("Choice", None), ())
    answer.add(without_cut_call(list(events)))
    return answer


def called(answer: WholeChoice) -> tuple[Any, ...]:
    """Return the name and the decoded arguments of each call."""
    return tuple((call.name, json.loads(call.arguments)) for call in answer.calls)


def shape(answer: WholeChoice) -> tuple[Any, ...]:
    """Return all of an answer but the ids, which are drawn."""
    calls = [(call.name, call.arguments) for call in answer.calls]
    return answer.text, answer.reasoning, calls


def cut(text: str, positions: Sequence[int]) -> list[str]:
    at = sorted({min(position, len(text)) for position in positions})
    return [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]


def streamed(events: Iterable[AnswerEvent]) -> list[str]:
    """Return the deltas of arguments, as they came."""
    return [event.text for event in events if isinstance(event, ArgumentsDelta)]
