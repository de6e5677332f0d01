"""Finds marks in a text that arrives in pieces.

Owns what has to be held back: the end of a text that may be the beginning of a mark. Called by the
parser and by the readers of arguments.
"""

import re
from collections.abc import Callable, Iterable
from functools import cached_property

# Returns None for a text that is not of some kind.
Fits = Callable[[str], object]


class MarkFinder:
    """Finds the first of some marks; of those that begin at one place the longest."""

    def __init__(self, marks: Iterable[str]) -> None:
        ordered = sorted(dict.fromkeys(marks), key=len, reverse=True)
        self._marks = tuple(ordered)
        self._pattern = re.compile("|".join(map(re.escape, ordered)) or "(?!)")
        firsts = "".join(sorted({mark[0] for mark in ordered}))
        self._first = re.compile(f"[{re.escape(firsts)}]") if firsts else re.compile("(?!)")
        self._firsts = re.escape(firsts)
        self._longest = len(ordered[0]) if ordered else 0
        # Finds where a mark may begin in a text.
        self.may_begin: Fits = self._first.search

    @cached_property
    def flowing(self) -> Fits:
        """What fits texts in which no mark may begin, and that do not end with white space."""
        others = f"[^{self._firsts}]" if self._firsts else r"[\s\S]"
        return re.compile(rf"{others}*[^{self._firsts}\s]\Z").match

    @cached_property
    def plain(self) -> Fits:
        """What fits texts in which no mark may begin, and that are the same in a JSON string."""
        return re.compile(rf'[^{self._firsts}"\\\x00-\x1f]+\Z').match

    def find(self, text: str, start: int = 0, *, final: bool = False) -> tuple[int, str]:
        """Return where the first mark begins, and the mark.

        Without one, where the text must be held back from, and "": there a mark may be beginning.
        final: no more text will come, so nothing is held back.
        """
        found = self._pattern.search(text, start)
        if found is not None and (final or not self._may_grow(found[0], found.end(), text)):
            return found.start(), found[0]
        if final:
            return len(text), ""
        if found is not None:
            return found.start(), ""
        return self._held_from(text, start), ""

    def _may_grow(self, mark: str, end: int, text: str) -> bool:
        """Whether a mark at the end of a text may turn out to be a longer one."""
        tail = text[end - len(mark) :]
        return any(len(other) > len(tail) and other.startswith(tail) for other in self._marks)

    def _held_from(self, text: str, start: int) -> int:
        position = max(start, len(text) - self._longest + 1)
        while (found := self._first.search(text, position)) is not None:
            tail = text[found.start() :]
            if any(mark.startswith(tail) for mark in self._marks):
                return found.start()
            position = found.end()
        return len(text)
