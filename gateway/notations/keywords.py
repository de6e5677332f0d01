"""Reads arguments as Python's calls have them: `city="Bern", days=[1, 2])`.

As Llama 3.2 and 4 write them. Called by the parser.
"""

import re

from gateway.notations.arguments import json_characters, json_scalar, json_string
from gateway.notations.marks import Fits

_WORD = re.compile(r"[^\s,:={}\[\]()'\"]+")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_ESCAPE_LENGTHS = {"x": 4, "u": 6, "U": 10}
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0"}
_IN_QUOTES: dict[str, Fits] = {
    quote: re.compile(rf'[^{quote}"\\\x00-\x1f]+\Z').match for quote in ("'", '"')
}
_JSON_BRACKETS = {"(": "[", ")": "]"}


class KeywordReader:
    """The text begins behind the bracket that opens the arguments, and ends before the one
    that closes them."""

    def __init__(self) -> None:
        self.is_complete = False
        self._open = ["call"]  # and brackets
        self._num_items = [0]  # in each of them
        self._quote = ""
        self._stop = re.compile("(?!)")
        self._word: list[str] = []
        self._is_begun = False
        self._is_value = False  # a key has come, its value is next

    def read(self, text: str) -> tuple[str, int]:
        found: list[str] = []
        if not self._is_begun:
            found.append("{")
            self._is_begun = True
        position = 0
        while position < len(text) and not self.is_complete:
            if self._quote:
                end = self._read_string(text, position, found)
            else:
                end = self._read_structure(text, position, found)
            if end == position:
                break
            position = end
        return "".join(found), position

    @property
    def passing(self) -> Fits | None:
        return _IN_QUOTES.get(self._quote)

    def _read_string(self, text: str, position: int, found: list[str]) -> int:
        stop = self._stop.search(text, position)
        end = len(text) if stop is None else stop.start()
        found.append(json_characters(text[position:end]))
        if stop is None:
            return end
        if stop[0] == self._quote:
            found.append('"')
            self._quote = ""
            return stop.end()
        following = text[end + 1 : end + 2]
        if end + _ESCAPE_LENGTHS.get(following, 2) > len(text):
            return end
        escape = _ESCAPE.match(text, end)
        if escape is None:
            found.append("\\\\")
            return end + 1
        code = escape[1] or escape[2] or escape[3]
        char = _ESCAPED.get(escape[4], escape[4]) if code is None else _character(int(code, 16))
        # A line break that is escaped is none.
        found.append("" if escape[4] == "\n" else json_characters(char))
        return escape.end()

    def _read_structure(self, text: str, position: int, found: list[str]) -> int:
        word = _WORD.match(text, position)
        if word is not None:
            self._word.append(word[0])
            return word.end()
        char = text[position]
        if char in "=:":
            self._end_key(char, found)
        elif char in "'\"":
            self._end_word(found)
            self._begin_item(found)
            self._quote = char
            self._stop = re.compile(rf"[\\{char}]")
            found.append('"')
        elif char in "([{":
            self._end_word(found)
            self._begin_item(found)
            self._open.append(char)
            self._num_items.append(0)
            found.append(_JSON_BRACKETS.get(char, char))
        elif char in ")]}":
            self._end_word(found)
            self._close(char, found)
            return position + (not self.is_complete)
        elif char == ",":
            self._end_word(found)
        return position + 1

    def _close(self, char: str, found: list[str]) -> None:
        opened = self._open.pop()
        self._num_items.pop()
        self.is_complete = not self._open
        found.append("}" if opened == "call" else _JSON_BRACKETS.get(char, char))

    def _end_key(self, char: str, found: list[str]) -> None:
        """The word so far, or the string, was a key."""
        if self._word:
            key = "".join(self._word)
            self._word.clear()
            self._begin_item(found)
            found.append(json_string(key))
        found.append(": ")
        self._is_value = True

    def _begin_item(self, found: list[str]) -> None:
        """Separate what follows from the item before."""
        if self._is_value:
            self._is_value = False
            return
        if self._num_items[-1]:
            found.append(", ")
        self._num_items[-1] += 1

    def _end_word(self, found: list[str]) -> None:
        if self._word:
            word = "".join(self._word)
            self._word.clear()
            self._begin_item(found)
            found.append(json_scalar(word))


def _character(code: int) -> str:
    is_character = code < 0x110000 and not 0xD800 <= code < 0xE000
    return chr(code) if is_character else "\ufffd"
