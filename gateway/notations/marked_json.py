"""Reads arguments that are almost JSON: strings between marks of their own, keys without any.

As Gemma 4 writes them: `{city:<|"|>Bern<|"|>,days:[1,2]}`. Called by the parser.
"""

import re

from gateway.notations.arguments import IN_STRING, json_characters, json_scalar, json_string
from gateway.notations.marks import Fits, MarkFinder

_WORD = re.compile(r'[^\s,:{}\[\]"]+')
_QUOTED = re.compile(r'["\\]')


class MarkedJsonReader:
    """The text begins with the brace that opens the object."""

    def __init__(self, string_mark: str) -> None:
        self.is_complete = False
        self._mark = string_mark
        self._finder = MarkFinder([string_mark])
        self._open: list[str] = []  # brackets
        self._string = ""  # what ends the string that is being read
        self._word: list[str] = []  # a bare word, as far as it came
        self._is_key = False

    def read(self, text: str) -> tuple[str, int]:
        found: list[str] = []
        position = 0
        while position < len(text) and not self.is_complete:
            if self._string == '"':
                end = self._read_quoted(text, position, found)
            elif self._string:
                end = self._read_marked(text, position, found)
            else:
                end = self._read_structure(text, position, found)
            if end == position:
                break
            position = end
        return "".join(found), position

    @property
    def passing(self) -> Fits | None:
        if self._string == '"':
            return IN_STRING
        return self._finder.plain if self._string else None

    def _read_marked(self, text: str, position: int, found: list[str]) -> int:
        at, mark = self._finder.find(text, position)
        found.append(json_characters(text[position:at]))
        if not mark:
            return at
        found.append('"')
        self._string = ""
        return at + len(mark)

    def _read_quoted(self, text: str, position: int, found: list[str]) -> int:
        stop = _QUOTED.search(text, position)
        end = len(text) if stop is None else stop.end()
        if stop is not None and stop[0] == '"':
            self._string = ""
        elif stop is not None:
            if end == len(text):
                end -= 1
            else:
                end += 1
        found.append(text[position:end])
        return end

    def _read_structure(self, text: str, position: int, found: list[str]) -> int:
        if text.startswith(self._mark, position):
            self._end_word(found)
            found.append('"')
            self._string = self._mark
            return position + len(self._mark)
        if self._mark.startswith(text[position:]):
            return position  # the mark may be coming
        char = text[position]
        word = _WORD.match(text, position)
        if word is not None:
            # The mark of a string may follow a word without a space.
            at, _ = self._finder.find(text, position + 1)
            end = min(word.end(), max(at, position + 1))
            self._word.append(text[position:end])
            return end
        self._end_word(found)
        if char == '"':
            self._string = '"'
            found.append(char)
        elif char in "{[":
            self._open.append(char)
            self._is_key = char == "{"
            found.append(char)
        elif char in "}]":
            found.append(char)
            if self._open:
                self._open.pop()
            self.is_complete = not self._open
            self._is_key = False
        elif char in ",:":
            found.append(f"{char} ")
            self._is_key = char == "," and self._open[-1:] == ["{"]
        return position + 1

    def _end_word(self, found: list[str]) -> None:
        if self._word:
            word = "".join(self._word)
            found.append(json_string(word) if self._is_key else json_scalar(word))
            self._word.clear()
