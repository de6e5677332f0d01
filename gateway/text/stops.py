"""Where a text ends because it reached one of the caller's stop strings.

Knows text only, not tokens. One StopMatcher a choice, fed by gateway/answers/generation.py.
"""

from collections.abc import Sequence


class StopMatcher:
    """Passes text on up to the first stop string.

    The first is the one completed earliest (of those the longest), so the result depends on the
    text alone and not on how it was cut into deltas. Only what may still become a stop string is
    held back. found: the stop string that was reached.
    """

    def __init__(self, stop: Sequence[str], *, keeps_stop: bool = False) -> None:
        """keeps_stop: the stop string itself is passed on, too."""
        self.found: str | None = None
        self._stop = stop
        self._keeps_stop = keeps_stop
        self._held = ""

    def push(self, text: str) -> str:
        """Take more text; return what is certain not to be part of a stop string."""
        if not self._stop or not text:
            return text
        text = self._held + text
        ends = [(at + len(stop), at, stop) for stop in self._stop if (at := text.find(stop)) >= 0]
        if ends:
            end, at, self.found = min(ends)
            self._held = ""
            return text[: end if self._keeps_stop else at]
        cut = min(_start_of(stop, text) for stop in self._stop)
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """Return what was held back: no more text will come."""
        held, self._held = self._held, ""
        return held


def _start_of(stop: str, text: str) -> int:
    """Find where the longest end of `text` that is a beginning of `stop` starts."""
    start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while start >= 0:
        if stop.startswith(text[start:]):
            return start
        start = text.find(stop[0], start + 1)
    return len(text)
