"""Notations ready for use: what a parser and a grammar are made from.

A tool notation and a reasoning notation come from two files, or one, and are read together. Built
once by each worker.
"""

import re
from dataclasses import dataclass

from gateway.notations.forms import CompiledForm, FormError, compile_form
from gateway.notations.notation import MessagesForm, Notation, ReasoningForm


@dataclass(frozen=True)
class CompiledNotation:
    """How a model writes calls and thoughts. forms: of calls; none where messages are calls.

    ignored: marks that are not text. text_opening: what text begins with, and is none.
    """

    forms: tuple[CompiledForm, ...] = ()
    messages: MessagesForm | None = None
    reasoning: ReasoningForm | None = None
    ignored: tuple[str, ...] = ()
    id_length: int = 0
    id_form: str = ""
    text_opening: str = ""

    @property
    def has_calls(self) -> bool:
        """Whether calls can be written."""
        return bool(self.forms) or self.messages is not None

    @property
    def marks(self) -> tuple[str, ...]:
        """Every literal text that may be a mark, or hold one."""
        found: list[str] = list(self.ignored)
        for form in self.forms:
            found += [form.form.call, form.form.section, form.form.parameter, form.form.string_mark]
        if self.messages is not None:
            messages = self.messages
            found += [*messages.open, messages.header_end, *messages.close, *messages.marks]
        if self.reasoning is not None:
            found += [self.reasoning.open, self.reasoning.close]
        return tuple(filter(None, found))


def compiled(calls: Notation | None, reasoning: Notation | None) -> CompiledNotation:
    """Return the calls of one notation and the thoughts of another. Raises FormError."""
    forms = tuple(map(compile_form, calls.calls)) if calls else ()
    messages = calls.messages if calls else None
    if messages is None and reasoning is not None:
        messages = reasoning.messages
    if messages is not None:
        _check_messages(messages)
    ignored = [*(calls.ignored if calls else ()), *(reasoning.ignored if reasoning else ())]
    return CompiledNotation(
        forms,
        messages,
        reasoning.reasoning if reasoning else None,
        tuple(dict.fromkeys(ignored)),
        calls.id_length if calls else 0,
        calls.id_form if calls else "",
        calls.text_opening if calls else "",
    )


def _check_messages(form: MessagesForm) -> None:
    for field in ("call", "reasoning"):
        try:
            pattern = re.compile(getattr(form, field))
        except re.error as error:
            raise FormError(field, f"is no regular expression: {error}") from None
        if field == "call" and "name" not in pattern.groupindex:
            raise FormError(field, "must have a group (?P<name>...)")
