"""Reads arguments that are written one by one between marks, and makes a JSON object of them.

As Qwen3-Coder and GLM write them: `<parameter=city>Bern</parameter>`. Strings stand bare, so what a
value is depends on the schema of the tool. Called by the parser.
"""

from gateway.notations.arguments import json_characters, json_string
from gateway.notations.forms import CompiledForm, ParameterForm
from gateway.notations.marks import Fits, MarkFinder
from gateway.notations.schema_types import ALL_TYPES, ParameterTypes, value_of

_CDATA, _CDATA_END = "<![CDATA[", "]]>"


class ParametersReader:
    """The text ends before the mark that follows the last parameter."""

    def __init__(self, form: CompiledForm, types: ParameterTypes) -> None:
        assert form.parameter is not None
        self.is_complete = False
        self._form: ParameterForm = form.parameter
        self._types = types
        self._end = form.tail.words[0]
        self._between = MarkFinder([self._form.before.words[0], self._end])
        steps = [(word, "") for word in self._form.before.words[1:]]
        steps += _with_first(self._form.between.words, "key")
        steps += _with_first(self._form.before_value.words, "kind")
        # The words on the way to a value, and what the text before each is.
        self._finders = [(MarkFinder([word]), what) for word, what in steps]
        self._after = self._ends = MarkFinder(_with_line_break(self._form))
        self._num_parameters = 0
        self._is_begun = False
        self._part = 0  # 0: before a parameter; then the words up to the value; last: in the value
        self._key: list[str] = []
        self._kind: list[str] = []
        self._is_string = False
        self._value: list[str] = []
        self._may_trim = self._may_wrap = False
        self._has_cdata = form.form.has_cdata
        self._after_cdata = MarkFinder([f"{_CDATA_END}{self._form.after.words[0]}"])

    def read(self, text: str) -> tuple[str, int]:
        found = [] if self._is_begun else ["{"]
        self._is_begun = True
        position = 0
        while not self.is_complete:
            end, goes_on = self._read_part(text, position, found)
            position = end
            if not goes_on:
                break
        return "".join(found), position

    @property
    def passing(self) -> Fits | None:
        is_in_value = self._part > len(self._finders) and not (self._may_trim or self._may_wrap)
        return self._ends.plain if is_in_value and self._is_string else None

    def _read_part(self, text: str, position: int, found: list[str]) -> tuple[int, bool]:
        if self._part == 0:
            return self._read_opening(text, position, found)
        if self._part <= len(self._finders):
            return self._read_key(text, position, found)
        return self._read_value(text, position, found)

    def _read_opening(self, text: str, position: int, found: list[str]) -> tuple[int, bool]:
        at, mark = self._between.find(text, position)
        if not mark:
            return at, False
        if mark == self._end:
            found.append("}")
            self.is_complete = True
            return at, False
        self._part = 1
        return at + len(mark), True

    def _read_key(self, text: str, position: int, found: list[str]) -> tuple[int, bool]:
        finder, what = self._finders[self._part - 1]
        at, mark = finder.find(text, position)
        if what == "key":
            self._key.append(text[position:at])
        elif what == "kind":
            self._kind.append(text[position:at])
        if not mark:
            return at, False
        self._part += 1
        if self._part > len(self._finders):
            self._begin_value(found)
        return at + len(mark), True

    def _begin_value(self, found: list[str]) -> None:
        key = "".join(self._key).strip()
        self._key.clear()
        found.append(f"{', ' if self._num_parameters else ''}{json_string(key)}: ")
        self._num_parameters += 1
        self._allowed = self._types_of(key)
        self._is_string = self._allowed == frozenset({"string"})
        self._may_trim = self._form.trims_start
        self._may_wrap, self._ends = self._has_cdata, self._after
        if self._is_string:
            found.append('"')

    def _types_of(self, key: str) -> frozenset[str]:
        """Return the types that a value may have, which the notation may say."""
        if not self._form.kind:
            return self._types.of(key)
        kind = "".join(self._kind).strip()
        self._kind.clear()
        if kind == ("true" if self._form.kind == "string" else "string"):
            return frozenset({"string"})
        return ALL_TYPES - {"string"}

    def _read_value(self, text: str, position: int, found: list[str]) -> tuple[int, bool]:
        if self._may_trim and position < len(text):
            self._may_trim = False
            position += text.startswith("\n", position)
        if self._may_wrap:
            if _CDATA.startswith(text[position:]):
                return position, False
            self._may_wrap = False
            if text.startswith(_CDATA, position):
                position += len(_CDATA)
                self._ends = self._after_cdata
        at, mark = self._ends.find(text, position)
        piece = text[position:at]
        if self._is_string:
            found.append(json_characters(piece))
        elif piece:
            self._value.append(piece)
        if not mark:
            return at, False
        if self._is_string:
            found.append('"')
        else:
            found.append(value_of("".join(self._value), self._allowed))
            self._value.clear()
        self._part = 0
        return at + len(mark), True


def _with_first(words: tuple[str, ...], what: str) -> list[tuple[str, str]]:
    """Return words, the first with what the text before it is."""
    return [(word, "" if number else what) for number, word in enumerate(words)]


def _with_line_break(form: ParameterForm) -> list[str]:
    """Return what ends a value: the mark, and the mark with the line break that is not its part."""
    mark = form.after.words[0]
    return [mark, f"\n{mark}"] if form.trims_end else [mark]
