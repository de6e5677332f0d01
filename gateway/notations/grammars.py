"""Grammars that hold an answer to calls of tools, in the notation of the model.

Owns the difference between calls that are demanded and calls that are held from where they begin.
Knows no requests. Called by answers/held_calls.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from backend.wire.sampling import Grammar
from gateway.notations.call_grammar import call_of
from gateway.notations.forms import CompiledForm, Words
from gateway.notations.lark import LarkWriter, without
from gateway.notations.messages_grammar import messages_grammar
from gateway.notations.served import ServedNotation
from gateway.notations.shortfalls import Shortfall

Functions = Sequence[tuple[str, Mapping[str, Any]]]


class CallsGrammar:
    """Writes the grammars of one request's calls.

    shortfalls: what of the schemas those that were written do not hold.
    """

    def __init__(
        self, notation: ServedNotation, functions: Functions, *, allows_parallel: bool
    ) -> None:
        """functions: names, and JSON schemas of their arguments."""
        self.shortfalls: list[Shortfall] = []
        self._notation = notation
        self._functions = functions
        self._allows_parallel = allows_parallel
        self._writer = LarkWriter(notation.special_ids)

    def demanded(self, body: Grammar | None = None) -> Grammar:
        """Return the grammar of an answer that consists of calls.

        body: what the answer may be instead.
        """
        if self._notation.form.messages is not None:
            return self._in_messages(body=body, is_required=body is None)
        writer = self._writer
        writer.add("start", "")
        marks = self._ignored_marks()
        around = f"({marks})*" if marks else ""
        text = f"{writer.literal(self._notation.form.text_opening)} body".strip()
        writer.add("start", f"{around} (calls | {text}) {around}" if body else f"{around} calls")
        self._add_section()
        return self._grammar(body)

    def held(self) -> Grammar:
        """Return the grammar of any answer whose calls are held from where they begin.

        Where nothing marks calls, an answer that begins as one is one.
        """
        if self._notation.form.messages is not None:
            return self._in_messages(body=None, is_required=False)
        writer = self._writer
        writer.add("start", "")
        form = self._notation.form.forms[0]
        if form.form.is_unmarked:
            others = self._other_marks("")
            if opening := writer.literal(self._notation.form.text_opening):
                text = f"{opening} {writer.any_text(others)}"
            else:
                text = writer.terminal(without(r"/[^{\[\s](.|\n)*/", others))
            writer.add("start", f"calls | {text}")
            self._add_section()
            return self._grammar(None)
        # The mark alone says that a call begins; what follows it is held.
        mark = self._mark(form)
        others = self._other_marks(mark)
        text = writer.any_text(others)
        skipped = "skipped" if (marks := self._ignored_marks()) else ""
        if skipped:
            writer.add(skipped, f"{text} ({marks})")
        repeats = f"{skipped}* (held {skipped}*)?" if skipped else "held?"
        if self._allows_parallel:
            repeats = "(held | skipped)*" if skipped else "held*"
        writer.add("start", f"{repeats} {text}")
        until = writer.until(mark, others)
        if form.section_open.words:
            after = writer.literal(form.section_open.text.removeprefix(mark))
            writer.add("held", f"{until} {after} calls_of_section")
            self._add_calls(allows_parallel=self._allows_parallel)
        else:
            writer.add("held", f"{until} call")
            self._add_calls(allows_parallel=False, mark=mark)
        return self._grammar(None)

    def _mark(self, form: CompiledForm) -> str:
        """Return the text by which a call is known to begin."""
        first = form.first_head[0]
        assert isinstance(first, Words)
        words = list(first.words)
        mark = words.pop(0)
        others = [text for text in self._notation.form.ignored if text.startswith(mark)]
        # Where a text that is no call begins alike, one word alone says nothing.
        while words and others and first.text.startswith(mark + words[0]):
            mark += words.pop(0)
            others = [text for text in others if text.startswith(mark)]
        return mark

    def _other_marks(self, mark: str) -> list[str]:
        """Return the marks of calls in other forms, which nobody holds and so may not come."""
        words = {word for form in self._notation.form.forms for word in form.opening_words}
        return sorted(
            word
            for word in words
            if not self._writer.has_token(word) and word not in mark and not mark.startswith(word)
        )

    def _ignored_marks(self) -> str:
        """Return the marks that are special tokens, and of no call; "" for none."""
        marks = filter(self._writer.has_token, self._notation.form.ignored)
        return " | ".join(map(self._writer.literal, marks))

    def _in_messages(self, *, body: Grammar | None, is_required: bool) -> Grammar:
        return messages_grammar(
            self._notation,
            self._functions,
            body=body,
            is_required=is_required,
            shortfalls=self.shortfalls,
        )

    def _grammar(self, body: Grammar | None) -> Grammar:
        ids = tuple(sorted(self._writer.used_ids))
        return Grammar("lark", self._writer.text(), body, ids)

    def _add_section(self) -> None:
        opening = self._writer.literal(self._notation.form.forms[0].section_open.text)
        self._writer.add("calls", f"{opening} calls_of_section".strip())
        self._add_calls(allows_parallel=self._allows_parallel)

    def _add_calls(self, *, allows_parallel: bool, mark: str = "") -> None:
        """Add the rules of the calls of a section. mark: what has been written of a call."""
        writer, form = self._writer, self._notation.form.forms[0]
        calls = [
            writer.add(
                f"call_{number}",
                call_of(writer, form, name, schema, shortfalls=self.shortfalls, mark=mark),
            )
            for number, (name, schema) in enumerate(self._functions)
        ]
        writer.add("call", " | ".join(calls))
        separator = writer.literal(form.form.separator)
        more = f"({separator} call)*" if allows_parallel else ""
        # A line break by itself: it may be a separator as well, and a lexer does not go back.
        closing = form.section_close.text
        rest = closing.lstrip()
        space = closing.removesuffix(rest)
        closing = f"{writer.literal(space)} {writer.literal(rest)}".strip()
        writer.add("calls_of_section", f"call {more} {closing}".strip())
