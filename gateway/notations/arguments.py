"""Reads the arguments of a call while they arrive, and makes JSON of them.

Owns what all readers share, and the one for arguments that are JSON already. Called by the parser.
"""

import json
import re
from typing import Protocol

from gateway.notations.marks import Fits

_STRING_STOP = re.compile(r'["\\]')
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
# Of JSON, what fits a piece within a string.
IN_STRING: Fits = re.compile(r'[^"\\]+\Z').match
_STRUCTURE = re.compile(r'["{}\[\]]')


class ArgumentReader(Protocol):
    """Turns arguments into JSON, piece by piece.

    is_complete: nothing more belongs to them; what read() left over comes after them.
    """

    is_complete: bool

    def read(self, text: str) -> tuple[str, int]:
        """Return JSON that is certain now, and how many characters of `text` were read.

        The others are to be given again, with more behind them.
        """
        ...

    @property
    def passing(self) -> Fits | None:
        """What fits texts that read() would return as they are, in the same state behind them;
        None where there are none."""
        ...


class JsonReader:
    """Arguments that are a JSON object, or any JSON that is nested: passed on as it is.

    The text begins with the bracket that opens it; depth: how many brackets are open before.
    """

    def __init__(self, depth: int = 0) -> None:
        self.is_complete = False
        self._depth = depth
        self._is_in_string = False

    def read(self, text: str) -> tuple[str, int]:
        end = self.end(text)
        return text[:end], end

    @property
    def passing(self) -> Fits | None:
        return IN_STRING if self._is_in_string else None

    def end(self, text: str) -> int:
        """Return how many characters of `text` belong to it."""
        position = 0
        while True:
            pattern = _STRING_STOP if self._is_in_string else _STRUCTURE
            found = pattern.search(text, position)
            if found is None:
                return len(text)
            position = found.end()
            match found[0]:
                case "\\":
                    if position == len(text):
                        return position - 1  # with what it escapes, once that is there
                    position += 1
                case '"':
                    self._is_in_string = not self._is_in_string
                case "{" | "[":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if self._depth <= 0:
                        self.is_complete = True
                        return position


def json_string(text: str) -> str:
    """Return a text as a JSON string, with its quotation marks."""
    return json.dumps(text, ensure_ascii=False)


def json_characters(text: str) -> str:
    """Return a text as it stands inside a JSON string."""
    return json_string(text)[1:-1]


def json_scalar(word: str) -> str:
    """Return a bare word as JSON: a number, a constant of JSON or Python, else a string."""
    constant = {"None": "null", "True": "true", "False": "false"}.get(word)
    if constant is not None:
        return constant
    try:
        value = json.loads(word)
    except (ValueError, RecursionError):
        return json_string(word)
    return word if value == value and value not in (float("inf"), float("-inf")) else "null"
