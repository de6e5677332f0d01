"""What finds the parts of an answer in its text: calls, thoughts and what the model says.

One parser a choice; streamed and whole answers go through the same. Called by delivery.py.
"""

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from gateway.answer_events import AnswerEvent, PlainKind
from gateway.answers.choice import Choice
from gateway.notations.parser import OutputParser
from gateway.notations.served import ServedNotation
from gateway.notations.thoughts import ThoughtCounter
from gateway.requests.text_request import PlainPrompts, TextRequest
from gateway.service import Service

# So many of a prompt's last tokens show whether it ends within a thought: a mark, and the white
# space behind it.
_NUM_LAST_TOKENS = 32


class AnswerParser(Protocol):
    """Splits the text of a choice as it arrives; how it was cut into pieces changes nothing."""

    def push(self, text: str) -> list[AnswerEvent]:
        """Take more text; return what is certain."""

    def pass_on(self, text: str) -> PlainKind | None:
        """Take text of which all is certain to be of one kind, and return that.

        None where push() is to be asked: nothing is taken then.
        """

    def flush(self, *, is_cut: bool = False) -> list[AnswerEvent]:
        """Return what was held back: no more text will come.

        is_cut: the model would have gone on.
        """


def splitting_notation(request: TextRequest, service: Service) -> ServedNotation | None:
    """Return what finds the parts of a request's answers; None where all text is what is said."""
    if isinstance(request.source, PlainPrompts):
        return None
    notation = service.notation
    return notation if request.tools is not None or notation.splits_text else None


def parsers_for(
    request: TextRequest, notation: ServedNotation | None, *, is_thinking: bool
) -> Callable[[], AnswerParser] | None:
    """Return what makes a parser for each choice; None where all text is simply what is said.

    is_thinking: the prompt ends within a thought.
    """
    if notation is None:
        return None
    tools = request.tools
    schemas = None
    if tools is not None:
        schemas = {tool.function.name: tool.function.parameters for tool in tools.tools}
    return lambda: OutputParser(
        notation.form,
        tools=schemas,
        is_thinking=is_thinking,
        is_continued=is_continued(request),
        allows_parallel=tools is None or tools.allows_parallel,
        hidden=notation.hidden,
        tracks_offsets=request.logprobs is not None,
    )


def is_continued(request: TextRequest) -> bool:
    """Whether the answer goes on with the last message."""
    source = request.source
    return not isinstance(source, PlainPrompts) and bool(source.continue_final_message)


class Thinking(Enum):
    """Whether an answer begins with a thought: not at all, maybe, or within one already."""

    NONE = 0
    POSSIBLE = 1
    OPEN = 2


def thinking_of(
    request: TextRequest, token_ids: list[int], notation: ServedNotation | None, service: Service
) -> Thinking:
    """Return whether the answer to a prompt begins with a thought."""
    if notation is None or not notation.splits_text:
        return Thinking.NONE
    continues = is_continued(request)
    last_ids = token_ids if continues else token_ids[-_NUM_LAST_TOKENS:]
    end = service.tokenizer.decode(last_ids, skip_special_tokens=False)
    if notation.ends_in_thought(end, is_continued=continues):
        return Thinking.OPEN
    is_over = continues or notation.ends_after_thought(end)
    return Thinking.NONE if is_over else Thinking.POSSIBLE


def count_thoughts(
    choices: list[Choice], notation: ServedNotation | None, *, is_thinking: bool
) -> None:
    """Have the tokens of thoughts counted, where there may be any."""
    if notation is not None and notation.splits_text:
        for choice in choices:
            choice.thought = ThoughtCounter(notation.form, is_thinking=is_thinking)
