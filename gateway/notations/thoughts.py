"""Counts the tokens of thoughts while they come.

Called for every token of a model that thinks, before stop strings are looked for.
"""

from gateway.notations.compiled import CompiledNotation
from gateway.notations.marks import Fits, MarkFinder


class ThoughtCounter:
    """num_tokens: those of thoughts so far, with the marks around them. is_over: there will be no
    more of them."""

    def __init__(self, form: CompiledNotation, *, is_thinking: bool) -> None:
        """is_thinking: the prompt ends within a thought."""
        self.num_tokens = 0
        self._in_messages = form.messages is not None
        opening: list[str] = []
        closing: list[str] = []
        if form.messages is not None:
            opening, closing = [form.messages.written_reasoning], list(form.messages.close)
        if form.reasoning is not None:
            opening.append(form.reasoning.open)
            closing.append(form.reasoning.close)
            is_thinking |= form.reasoning.starts_open
        self._begins_open = is_thinking
        # Which an answer begins with that has a thought, or says so that it has none.
        self._first = (*opening, *(mark for mark in closing if mark in form.ignored))
        self._last = closing[-1] if closing else ""
        self._header_end = form.messages.header_end if form.messages is not None else ""
        self._opening = MarkFinder(opening)
        self._closing = MarkFinder(closing)
        self._is_thinking = is_thinking
        self.is_over = False
        self._held = ""
        self._num_held = 0  # tokens that may be the beginning of a mark
        self._may_close: Fits | None = None  # tells what cannot end the thought

    def behind(self, text: str) -> str:
        """Return what a whole answer says behind its thought."""
        if self._header_end:
            return text.rpartition(self._header_end)[2]
        if self._begins_open or text.lstrip().startswith(self._first):
            return text.partition(self._last)[2]
        return text

    def push(self, text: str) -> None:
        """Take the text of one more token."""
        may_close = self._may_close
        if may_close is not None and may_close(text) is None:
            self.num_tokens += 1  # what follows would do the same
        elif not self.is_over:
            self._look_at(text)
            is_within = self._is_thinking and not self._held
            self._may_close = self._closing.may_begin if is_within else None

    def _look_at(self, text: str) -> None:
        self._held += text
        if self._is_thinking:
            self.num_tokens += 1
            at, mark = self._closing.find(self._held, final=False)
            self._held = self._held[at + len(mark) :]
            if mark:
                self._is_thinking, self._num_held = False, 0
            return
        self._num_held += 1
        at, mark = self._opening.find(self._held)
        if mark:
            self.num_tokens += self._num_held
            self._is_thinking = True
        elif self._held[:at].strip() and not self._in_messages:
            self.is_over = True  # it has begun to say something
        if mark or at == len(self._held) > 0:
            self._num_held = 0
        self._held = self._held[at + len(mark) :]
