"""Passes what belongs to a call after its arguments, and what stands between two calls.

Called by the parser.
"""

from typing import Literal

from gateway.notations.arguments import JsonReader
from gateway.notations.forms import CompiledForm
from gateway.notations.heads import match_words

# More text is needed; text follows; another call of the section may; a message's header does.
Outcome = Literal["more", "text", "call", "header"]


class CallRest:
    """The rest of one call."""

    def __init__(self, form: CompiledForm | None, inside: JsonReader | None = None) -> None:
        """form: None for a call that is a message. inside: of an object that has the arguments."""
        self.form = form
        self._inside = inside
        self._is_tail_over = False

    def read(self, text: str, *, final: bool) -> tuple[int, Outcome]:
        """Return how many characters of a text belong to it, and what follows.

        The others are to be given again, with more behind them unless final.
        """
        start = 0
        if self._inside is not None:
            start = self._inside.end(text)
            if not self._inside.is_complete:
                return start, "more"
            self._inside = None
        if self.form is None:
            return start, "header"
        if not self._is_tail_over:
            end = _end_of_tail(self.form, text, start, final=final)
            if end is None:
                return start, "more"
            self._is_tail_over, start = True, end
        return _read_section(self.form, text, start, final=final)


def _end_of_tail(form: CompiledForm, text: str, start: int, *, final: bool) -> int | None:
    """Return where the words of the form end, of which the last may be missing."""
    for count in range(len(form.tail.words), 0, -1):
        end = match_words(form.tail.words[:count], text, start)
        if end is None and not final:
            return None
        if end is not None and end >= 0:
            return end
    return start


def _read_section(form: CompiledForm, text: str, start: int, *, final: bool) -> tuple[int, Outcome]:
    """Pass the section's end, or what stands before its next call."""
    if not (form.section_open.words or form.section_close.words or form.separator):
        return start, "text"
    if form.section_close.words:
        end = match_words(form.section_close.words, text, start)
        if end is None and not final:
            return start, "more"
        if end is not None and end >= 0:
            return end, "text"
    if form.separator:
        end = match_words((form.separator,), text, start)
        if end is None and not final:
            return start, "more"
        if end is not None and end >= 0:
            return end, "call"
    return start, "call"
