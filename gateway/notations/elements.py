"""Reads arguments that nest in tags which are named by their keys, and makes JSON of them.

As MiniMax M3 writes them: `<city>Bern</city><days><item>1</item></days>`, where tags have a mark of
their own in front. Strings stand bare, lists are items, and what is null is left out, so what a
value is depends on the schema of the tool. Called by the parser.
"""

from dataclasses import dataclass, field
from typing import Literal

from gateway.notations.arguments import json_characters, json_string
from gateway.notations.forms import CompiledForm, ParameterForm
from gateway.notations.heads import MAX_HEAD_CHARS
from gateway.notations.marks import Fits, MarkFinder
from gateway.notations.schema_parts import SchemaPart
from gateway.notations.schema_types import value_of


@dataclass(slots=True)
class _Open:
    """An element that is not closed. brackets: of what it holds; "" for all arguments' own."""

    key: str
    part: SchemaPart
    brackets: str = ""
    keys: set[str] = field(default_factory=set)
    num_values: int = 0


class ElementsReader:
    """The text ends before the mark that follows the last element."""

    def __init__(self, form: CompiledForm, part: SchemaPart) -> None:
        """part: what is said of all arguments."""
        assert form.parameter is not None and form.parameter.after_key is not None
        self.is_complete = False
        self._form: ParameterForm = form.parameter
        self._tail = form.tail.words[0]
        self._item_key = form.form.item_key
        self._opening = self._form.before.words[0]
        self._closing = self._form.after.words[0]
        self._opening_end = self._form.between.words[0]
        self._closing_end = form.parameter.after_key.words[0]
        self._tags = MarkFinder([self._opening, self._closing])
        self._finders: dict[str, MarkFinder] = {}  # of what ends a value of some key
        self._open = [_Open("", part, "{}")]
        self._is_begun = False
        self._state: Literal["between", "value", "string", "text"] = "between"
        self._ends = self._tags
        self._text: list[str] = []  # a value that is not known to be a string

    def read(self, text: str) -> tuple[str, int]:
        found = [] if self._is_begun else ["{"]
        self._is_begun = True
        position = 0
        while not self.is_complete:
            end = self._read_part(text, position, found)
            if end is None:
                break
            position = end
            if position == len(text):
                break
        return "".join(found), position

    @property
    def passing(self) -> Fits | None:
        return self._ends.plain if self._state == "string" else None

    def _read_part(self, text: str, position: int, found: list[str]) -> int | None:
        """Return up to where a text was read; None where more is needed."""
        match self._state:
            case "between":
                return self._read_tag(text, position, found)
            case "value":
                return self._read_beginning(text, position, found)
        return self._read_value(text, position, found)

    # Tags.

    def _read_tag(self, text: str, position: int, found: list[str]) -> int | None:
        at, mark = self._tags.find(text, position)
        if not mark:
            return at if at > position else None
        key, end = self._tag(text, at, mark)
        if end is None:
            return at if at > position else None
        if end == at:
            return at + len(mark)  # no tag
        if mark == self._opening:
            self._begin(key, found)
        elif any(each.key == key for each in self._open[1:]):
            while self._close(found) != key:
                pass
        elif text.startswith(self._tail, at):
            while self._open:
                self._close(found)
            self.is_complete = True
            return at
        return end

    def _tag(self, text: str, at: int, mark: str) -> tuple[str, int | None]:
        """Return the key of a tag, and where that ends: where it began if it is none, and None if
        more is needed."""
        last = self._opening_end if mark == self._opening else self._closing_end
        start = at + len(mark)
        end = text.find(last, start, start + MAX_HEAD_CHARS)
        if end >= 0:
            return text[start:end].strip(), end + len(last)
        return "", at if len(text) - start >= MAX_HEAD_CHARS else None

    def _begin(self, key: str, found: list[str]) -> None:
        """An element begins, and its value is next."""
        outer = self._open[-1]
        if outer.num_values:
            found.append(", ")
        if outer.brackets == "{}":
            found.append(f"{json_string(key)}: ")
            outer.keys.add(key)
            part = outer.part.member(key)
        else:
            part = outer.part.item(outer.num_values)
        outer.num_values += 1
        self._open.append(_Open(key, part))
        if part.types == frozenset({"string"}):
            found.append('"')
            self._begin_text("string")
        elif part.types & {"array", "object"}:
            self._state = "value"
        else:
            self._begin_text("text")

    def _begin_text(self, state: Literal["string", "text"]) -> None:
        self._state = state
        key = self._open[-1].key
        if key not in self._finders:
            mark = f"{self._closing}{key}{self._closing_end}"
            self._finders[key] = MarkFinder([mark])
        self._ends = self._finders[key]

    def _close(self, found: list[str]) -> str:
        """End the innermost element, which holds others; return its key."""
        element = self._open.pop()
        if element.brackets == "{}":
            for key in element.part.left_out:
                if key not in element.keys:
                    comma = ", " if element.num_values else ""
                    found.append(f"{comma}{json_string(key)}: null")
                    element.num_values += 1
        found.append(element.brackets[-1])
        return element.key

    # Values.

    def _read_beginning(self, text: str, position: int, found: list[str]) -> int | None:
        """See whether a value holds elements, and which: what comes first in it tells."""
        start = len(text) - len(text[position:].lstrip())
        if start == len(text):
            return None
        at, mark = self._tags.find(text, start)
        if at == start and not mark:
            return None  # a mark may be beginning
        if at > start or mark != self._opening:
            self._begin_text("text")
            return position
        key, end = self._tag(text, at, mark)
        if end is None:
            return None
        if end == at:
            self._begin_text("text")
            return position
        element = self._open[-1]
        types = element.part.types
        is_item = key == self._item_key and not element.part.has_member(key)
        is_array = "array" in types and (is_item or "object" not in types)
        element.brackets = "[]" if is_array else "{}"
        found.append(element.brackets[0])
        self._state = "between"
        return start

    def _read_value(self, text: str, position: int, found: list[str]) -> int | None:
        at, mark = self._ends.find(text, position)
        piece = text[position:at]
        if self._state == "string":
            found.append(json_characters(piece))
        else:
            self._text.append(piece)
        if not mark:
            return at if at > position else None
        element = self._open.pop()
        if self._state == "string":
            found.append('"')
        else:
            found.append(_value("".join(self._text), element.part.types))
            self._text.clear()
        self._state = "between"
        return at + len(mark)


def _value(text: str, types: frozenset[str]) -> str:
    """Return a value that holds no elements, as JSON. Without a text it is the first that has
    nothing in it: text, list, object, null."""
    if not text.strip() and "string" not in types:
        empty = {"array": "[]", "object": "{}", "null": "null"}
        return next((empty[name] for name in empty if name in types), '""')
    return value_of(text, types)
