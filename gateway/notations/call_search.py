"""Looks for the beginning of a call at one place of a text: in which form, and of which tool.

Holds the forms that may still match. Called by the parser, with all that came since the place.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.notations.forms import CompiledForm
from gateway.notations.heads import Begun, HeadMatcher


@dataclass(frozen=True, slots=True)
class Found:
    """A call of a form has begun."""

    form: CompiledForm
    begun: Begun


class CallSearch:
    """mark: what was found at the place."""

    def __init__(self, forms: Sequence[CompiledForm], tools: Collection[str] | None) -> None:
        """tools: names of those that the model was told of."""
        self.mark = ""
        self._forms = forms
        self._tools = tools
        self._heads: list[HeadMatcher] = []

    @property
    def is_open(self) -> bool:
        """Whether a place is looked at of which it is not known what it is."""
        return bool(self._heads)

    @property
    def has_unmarked(self) -> bool:
        """Whether calls may begin that nothing marks."""
        return any(form.form.is_unmarked for form in self._forms)

    def begin_at(self, mark: str, *, is_thinking: bool) -> bool:
        """Look at the place of a mark; False if no call begins with it."""
        self._heads, self.mark = [], mark
        for form in self._forms:
            if mark in form.opening_words:
                is_known = form.form.known_only or is_thinking
                elements = form.first_head
                if form.section_open.words and mark != form.section_open.words[0]:
                    elements = form.head  # a model may leave out what stands around all calls
                known = self._tools if is_known else None
                self._heads.append(HeadMatcher(form, elements, known))
        return self.is_open

    def begin_unmarked(self) -> None:
        """Look where text would begin, for calls that nothing marks."""
        if not self._heads:
            forms = [form for form in self._forms if form.form.is_unmarked]
            self._heads = [HeadMatcher(form, form.first_head, self._tools) for form in forms]

    def begin_after(self, form: CompiledForm) -> None:
        """Look where the next call of a section may begin."""
        if not self._heads:
            is_known = form.form.known_only or form.form.is_unmarked
            self._heads = [HeadMatcher(form, form.head, self._tools if is_known else None)]

    def match(self, text: str) -> Found | Literal["more", "none"]:
        """Say what a text begins with; with a call, or none, the search is over."""
        left = []
        for head in self._heads:
            outcome = head.match(text)
            if isinstance(outcome, Begun):
                self._heads = []
                return Found(head.form, outcome)
            if outcome == "more":
                left.append(head)
        self._heads = left
        return "more" if left else "none"

    def give_up(self) -> None:
        """Look no more: the text ends."""
        self._heads = []
