"""What a model's answer consists of, in the order in which it comes, in no client's words.

A notation makes these events out of text, and every dialect writes them in its own form. One choice
of an answer is any number of TextDelta and ReasoningDelta, and of calls: CallBegin, its
ArgumentsDelta, CallEnd. That a choice is over, and why, is told beside the events.
"""

import msgspec


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """More of what the model says.

    start: where it begins in all that the model wrote, marks and thoughts included, in characters;
    -1 where nobody asks.
    """

    text: str
    start: int = -1


class ReasoningDelta(msgspec.Struct, frozen=True, gc=False):
    """More of what the model thinks before it says something."""

    text: str


class CallBegin(msgspec.Struct, frozen=True, gc=False):
    """The model calls a function. index: of the call in its choice, from 0. id: made here."""

    index: int
    id: str
    name: str


class ArgumentsDelta(msgspec.Struct, frozen=True, gc=False):
    """More of a call's arguments: all pieces together are JSON."""

    index: int
    text: str


class CallEnd(msgspec.Struct, frozen=True, gc=False):
    """The arguments are complete. A call that was cut off has no such end."""

    index: int


# What is text and no more.
PlainKind = type[TextDelta] | type[ReasoningDelta] | type[ArgumentsDelta]
AnswerEvent = TextDelta | ReasoningDelta | CallBegin | ArgumentsDelta | CallEnd
