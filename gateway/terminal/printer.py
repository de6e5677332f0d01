"""Prints an answer as it comes: text plain, thoughts dimmed, nothing that a terminal would obey.

What goes into a file or a pipe is the answer's text alone, as it is.
"""

import os
from typing import TextIO

from gateway.terminal.chat_client import Piece

_DIM, _BOLD, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[0m"
# A model's text may hold escape sequences, which could rename the window or worse. What is written
# in their place is how Unicode pictures them; line breaks and tabs stay.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
_PICTURES |= {0x7F: 0x2421} | {code: 0xFFFD for code in range(0x80, 0xA0)}


class Printer:
    """Where answers go. is_watched: a person sees it, in a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.is_watched = stream.isatty()
        self._has_colours = self.is_watched and "NO_COLOR" not in os.environ
        self._is_in_thought = False
        self._is_at_start = True  # of a line

    def piece(self, piece: Piece) -> None:
        """Print the next piece of an answer, at once."""
        if piece.is_thought and not self.is_watched:
            return
        if piece.is_thought != self._is_in_thought:
            self._turn(to_thought=piece.is_thought)
        self._write(piece.text.translate(_PICTURES) if self.is_watched else piece.text)

    def end(self) -> None:
        """End the answer, and its last line."""
        if self._is_in_thought:
            self._turn(to_thought=False)
        if not self._is_at_start:
            self._write("\n")

    def note(self, words: str) -> None:
        """Tell a watching person something that is no part of the answer."""
        if self.is_watched:
            self._write(self.dimmed(words) + "\n")

    def dimmed(self, words: str) -> str:
        return f"{_DIM}{words}{_RESET}" if self._has_colours else words

    def bold(self, words: str) -> str:
        return f"{_BOLD}{words}{_RESET}" if self._has_colours else words

    def _turn(self, *, to_thought: bool) -> None:
        if self._has_colours:
            self._stream.write(_DIM if to_thought else _RESET)
        if not to_thought:
            self._write("\n" if self._is_at_start else "\n\n")
        self._is_in_thought = to_thought

    def _write(self, text: str) -> None:
        if text:
            self._stream.write(text)
            self._stream.flush()
            self._is_at_start = text.endswith("\n")
