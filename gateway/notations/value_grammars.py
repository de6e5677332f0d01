"""Grammars of values in notations that are not JSON, from the JSON schemas of tools.

What a schema says beyond types, members, items, enumerations and references is not held. Called by
grammars.py.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gateway.notations.lark import LarkWriter
from gateway.notations.schema_types import resolved, types_of

_INTEGER = "/-?(0|[1-9][0-9]*)/"
_NUMBER = r"/-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/"
_MAX_DEPTH = 12


class Spelling(Protocol):
    """How a notation spells values.

    constants: null, true and false. comma, colon: between members. sorts_keys: members come in
    alphabetic order.
    """

    constants: tuple[str, str, str]
    comma: str
    colon: str
    sorts_keys: bool

    def text(self, writer: LarkWriter) -> str:
        """Return any string."""

    def literal(self, writer: LarkWriter, text: str) -> str:
        """Return one string."""

    def key(self, writer: LarkWriter, name: str) -> str:
        """Return the name of a member."""


class MarkedSpelling:
    """Strings between marks, bare keys: see marked_json.py."""

    constants = ("null", "true", "false")
    comma, colon = ",", ":"

    def __init__(self, mark: str, *, has_bare_keys: bool) -> None:
        self._mark = mark
        self.sorts_keys = has_bare_keys

    def text(self, writer: LarkWriter) -> str:
        return f"{writer.literal(self._mark)} {writer.until(self._mark)}"

    def literal(self, writer: LarkWriter, text: str) -> str:
        return writer.literal(f"{self._mark}{text}{self._mark}")

    def key(self, writer: LarkWriter, name: str) -> str:
        return writer.literal(name) if self.sorts_keys else self.literal(writer, name)


class PythonSpelling:
    """Values as Python writes them: see keywords.py."""

    constants = ("None", "True", "False")
    comma, colon = ", ", ": "
    sorts_keys = False

    def text(self, writer: LarkWriter) -> str:
        string = r"""/'([^'\\\n]|\\[^\n])*'|"([^"\\\n]|\\[^\n])*"/"""
        return writer.new(string, "text")

    def literal(self, writer: LarkWriter, text: str) -> str:
        return f"({writer.literal(repr(text))} | {writer.literal(json.dumps(text))})"

    def key(self, writer: LarkWriter, name: str) -> str:
        return self.literal(writer, name)


class ValueGrammar:
    """Writes the rules of the values of one schema."""

    def __init__(self, writer: LarkWriter, spelling: Spelling, root: Mapping[str, Any]) -> None:
        """root: the whole schema, where references lead."""
        self._writer = writer
        self._spelling = spelling
        self._root = root
        self._known: dict[int, str] = {}
        self._any = ""

    def members(self, schema: Mapping[str, Any], keys: Mapping[str, str]) -> str:
        """Return the members of an object, without brackets. keys: how their names are written."""
        properties = _properties(schema)
        required = set(schema.get("required") or ())
        names = sorted(properties) if self._spelling.sorts_keys else list(properties)
        parts = [
            (f"{keys[name]} {self.value(properties[name])}", name in required) for name in names
        ]
        return _separated(self._writer, parts, self._spelling.comma)

    def value(self, schema: Any) -> str:
        """Return a value that obeys a schema."""
        schema = resolved(schema, self._root)
        if not isinstance(schema, dict) or not schema:
            return self.anything()
        if id(schema) not in self._known:
            name = self._known[id(schema)] = self._writer.reserve("value")
            self._writer.add(name, self._alternatives(schema))
        return self._known[id(schema)]

    def anything(self) -> str:
        """Return any value."""
        if not self._any:
            self._any = self._writer.reserve("any")
            items = f'({self._any} ("{self._spelling.comma}" {self._any})*)?'
            text, colon = self._spelling.text(self._writer), self._spelling.colon
            pair = f'{text} "{colon}" {self._any}'
            members = f'({pair} ("{self._spelling.comma}" {pair})*)?'
            scalars = " | ".join([text, _NUMBER, *map(json.dumps, self._spelling.constants)])
            self._writer.add(
                self._any, f'{scalars} | "[" {items} "]" | {json.dumps("{")} {members} "}}"'
            )
        return self._any

    def _alternatives(self, schema: Mapping[str, Any]) -> str:
        if isinstance(values := schema.get("enum"), list) and values:
            return " | ".join(self._written(value) for value in values)
        if "const" in schema:
            return self._written(schema["const"])
        for name in ("anyOf", "oneOf"):
            if isinstance(choices := schema.get(name), list) and choices:
                return " | ".join(self.value(choice) for choice in choices)
        return " | ".join(self._of_type(t, schema) for t in sorted(types_of(schema, self._root)))

    def _of_type(self, name: str, schema: Mapping[str, Any]) -> str:
        null, true, false = self._spelling.constants
        match name:
            case "string":
                return self._spelling.text(self._writer)
            case "integer":
                return _INTEGER
            case "number":
                return _NUMBER
            case "boolean":
                return f'"{true}" | "{false}"'
            case "null":
                return f'"{null}"'
            case "array":
                item = self.value(schema.get("items"))
                return f'"[" ({item} ("{self._spelling.comma}" {item})*)? "]"'
        if not _properties(schema):
            return self.anything()
        colon = json.dumps(self._spelling.colon)
        keys = {
            key: f"{self._spelling.key(self._writer, key)} {colon}" for key in _properties(schema)
        }
        return f'{json.dumps("{")} {self.members(schema, keys)} "}}"'

    def _written(self, value: Any) -> str:
        null, true, false = self._spelling.constants
        match value:
            case str():
                return self._spelling.literal(self._writer, value)
            case bool():
                return json.dumps(true if value else false)
            case None:
                return json.dumps(null)
            case int() | float():
                return json.dumps(json.dumps(value))
        return self.anything()


def _properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _separated(writer: LarkWriter, parts: Sequence[tuple[str, bool]], comma: str) -> str:
    """Return parts in their order, those that are not required at will, commas between them."""
    # Rules for what may follow some part, and for what may come first; the last are made first.
    rest = first = '""'
    for part, is_required in reversed(parts):
        following = f"{json.dumps(comma)} {part} {rest}"
        beginning = f"{part} {rest}"
        if is_required:
            rest, first = writer.new(following, "rest"), writer.new(beginning, "first")
        else:
            rest = writer.new(f"{following} | {rest}", "rest")
            first = writer.new(f"{beginning} | {first}", "first")
    return first
