"""Passes text or thoughts on, without the white space that only separates them from what follows.

Called by the parser.
"""

from collections.abc import Callable


class Region:
    """Where text goes. White space waits for what follows it.

    is_blank: nothing but white space has come since it was entered, or since a call.
    is_begun: it was entered, or something came.
    """

    def __init__(self, tell: Callable[[str], None], *, keeps_space: bool) -> None:
        """keeps_space: white space at the beginning of the answer is text."""
        self.is_blank = True
        self.is_begun = False
        self._tell = tell
        self._space: list[str] = []
        self._strips = not keeps_space

    def write(self, text: str) -> None:
        """Take more text."""
        if not text:
            return
        self.is_begun = True
        if text.isspace():
            self._space.append(text)
            return
        visible = text.rstrip()
        if self._strips:
            self._space.clear()
            visible = visible.lstrip()
            self._strips = False
        self._tell("".join(self._space) + visible)
        self._space.clear()
        self.is_blank = False
        if len(rest := text[len(text.rstrip()) :]):
            self._space.append(rest)

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
            self._tell(space)
