"""Passes text or thoughts on, without the white space that only separates them from what follows.

Called by the parser.
"""

from collections.abc import Callable


class Region:
    """Where text goes. White space waits for what follows it.

    is_blank: nothing but white space has come since it was entered, or since a call.
    is_begun: it was entered, or something came.
    """

    def __init__(self, tell: Callable[[str, int], None], *, keeps_space: bool) -> None:
        """tell: given text, and where it begins. keeps_space: white space at the beginning of the
        answer is text."""
        self.is_blank = True
        self.is_begun = False
        self._tell = tell
        self._space: list[str] = []
        self._space_start = 0
        self._strips = not keeps_space

    @property
    def flows(self) -> bool:
        """Whether text that does not end with white space is passed on as it is."""
        return not (self.is_blank or self._space or self._strips)

    def write(self, text: str, start: int) -> None:
        """Take more text. start: where it begins, wherever that is counted from."""
        if not text:
            return
        self.is_begun = True
        if text.isspace():
            self._hold(text, start)
            return
        visible = text.rstrip()
        rest_start = start + len(visible)
        if self._strips:
            self._space.clear()
            visible = visible.lstrip()
            start = rest_start - len(visible)
            self._strips = False
        if self._space:
            start = self._space_start
        self._tell("".join(self._space) + visible, start)
        self._space.clear()
        self.is_blank = False
        if rest := text[len(text.rstrip()) :]:
            self._hold(rest, rest_start)

    def _hold(self, space: str, start: int) -> None:
        if not self._space:
            self._space_start = start
        self._space.append(space)

    def drop_space(self) -> None:
        """A call begins: white space before it is no text."""
        self._space.clear()
        self.is_blank = True

    def enter(self) -> None:
        """Text goes here from now on: white space that comes first only separates."""
        self._strips = True
        self.is_begun = True
        self.is_blank = True

    def leave(self) -> None:
        """Text goes elsewhere from now on."""
        self._space.clear()

    def finish(self, *, is_blank: bool) -> None:
        """No more will come. is_blank: white space at the end is no text."""
        space = "".join(self._space)
        self._space.clear()
        if space and not is_blank and not self._strips:
            self._tell(space, self._space_start)
