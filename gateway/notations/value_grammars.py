"""Grammars of values in notations that are not JSON, from the JSON schemas of tools.

Both notations may be written with JSON in them, whose grammar obeys every keyword: a value that a
rule of theirs cannot hold is written so. Called by grammars.py.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.notations.lark import LarkWriter
from gateway.notations.schema_documents import document, keywords
from gateway.notations.schema_types import resolved, types_of
from gateway.notations.shortfalls import NotCarried
from gateway.notations.spellings import TEXTUAL, Spelling

_INTEGER = "/-?(0|[1-9][0-9]*)/"
_NUMBER = r"/-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/"
_NUMERIC = frozenset("minimum maximum exclusiveMinimum exclusiveMaximum multipleOf".split())
_RULED = frozenset(("type", "properties", "required", "additionalProperties", "items"))
_SIZES = frozenset(("minItems", "maxItems"))


class ValueGrammar:
    """Writes the rules of the values of one schema."""

    def __init__(self, writer: LarkWriter, spelling: Spelling, root: Mapping[str, Any]) -> None:
        """root: the whole schema, where references lead."""
        self._writer = writer
        self._spelling = spelling
        self._root = root
        self._known: dict[int, str] = {}
        self._ruled: dict[int, bool] = {}
        self._any = self._any_object = ""

    def object(self, schema: Mapping[str, Any]) -> str:
        """Return an object that obeys a schema."""
        return self._ruled_object(schema) if self._is_ruled(schema) else self._json(schema)

    def members(self, schema: Mapping[str, Any], keys: Mapping[str, str]) -> str:
        """Return the members of an object, without brackets. keys: how their names are written."""
        properties = properties_of(schema)
        required = set(schema.get("required") or ())
        names = sorted(keys) if self._spelling.sorts_keys else list(keys)
        parts = [
            (f"{keys[name]} {self.value(properties.get(name))}", name in required)
            for name in names
            if properties.get(name) is not False
        ]
        return _separated(self._writer, parts, self._spelling.comma)

    def value(self, schema: Any) -> str:
        """Return a value that obeys a schema."""
        if isinstance(schema, dict) and keywords(schema) == {"$ref"}:
            schema = resolved(schema, self._root)
        if not isinstance(schema, dict) or not keywords(schema):
            return self.anything()
        if id(schema) not in self._known:
            name = self._known[id(schema)] = self._writer.reserve("value")
            is_ruled = self._is_ruled(schema)
            body = self._alternatives(schema) if is_ruled else self._json(schema)
            self._writer.add(name, body)
        return self._known[id(schema)]

    def anything(self) -> str:
        """Return any value."""
        if not self._any:
            self._any = self._writer.reserve("any")
            items = f'({self._any} ("{self._spelling.comma}" {self._any})*)?'
            scalars = [self._text({}), _NUMBER, *map(json.dumps, self._spelling.constants)]
            self._writer.add(
                self._any, f'{" | ".join(scalars)} | "[" {items} "]" | {self.any_object()}'
            )
        return self._any

    def any_object(self) -> str:
        """Return any object."""
        if not self._any_object:
            self._any_object = self._writer.reserve("object")
            pair = (
                f'{self._spelling.any_key(self._writer)} "{self._spelling.colon}" {self.anything()}'
            )
            members = f'({pair} ("{self._spelling.comma}" {pair})*)?'
            self._writer.add(self._any_object, f'{json.dumps("{")} {members} "}}"')
        return self._any_object

    def _text(self, schema: Any) -> str:
        return self._spelling.text(self._writer, schema, self._root)

    def _json(self, schema: Any) -> str:
        return self._spelling.json(self._writer, document(schema, self._root))

    # What has rules of its own.

    def _is_ruled(self, schema: Any) -> bool:
        """Say whether rules of the notation hold all that a schema says, but for its members and
        items: each of these is looked at by itself."""
        if not isinstance(schema, dict):
            return True
        if id(schema) not in self._ruled:
            self._ruled[id(schema)] = True  # as far as it leads to itself
            try:
                self._ruled[id(schema)] = self._has_rules(schema)
            except NotCarried:
                self._ruled[id(schema)] = False
        return self._ruled[id(schema)]

    def _has_rules(self, schema: Mapping[str, Any]) -> bool:
        said = keywords(schema)
        if said == {"$ref"}:
            return self._is_ruled(resolved(schema, self._root))
        if said <= {"enum", "type"} and "enum" in said:
            return all(map(self._is_writable, schema["enum"]))
        if said <= {"const", "type"} and "const" in said:
            return self._is_writable(schema["const"])
        for name in ("anyOf", "oneOf"):
            if said == {name}:
                return all(map(self._is_ruled, schema[name]))
        if not said <= _RULED | _SIZES | _NUMERIC | TEXTUAL:
            return False
        types = self._types(schema)
        if said & TEXTUAL and "string" in types:
            self._text(schema)
        return ("object" not in types or self._has_object_rules(schema)) and (
            "array" not in types or isinstance(schema.get("items", True), dict | bool)
        )

    def _has_object_rules(self, schema: Mapping[str, Any]) -> bool:
        properties = properties_of(schema)
        for name in properties:
            self._spelling.key(self._writer, name)
        if isinstance(schema.get("additionalProperties"), dict):
            return False
        return set(schema.get("required") or ()) <= set(properties)

    def _is_writable(self, value: Any) -> bool:
        if isinstance(value, str):
            self._spelling.literal(self._writer, value)
        return not isinstance(value, list | dict)

    def _types(self, schema: Any) -> list[str]:
        types = types_of(schema, self._root, takes_nullable=False)
        return sorted(types - {"integer"} if "number" in types else types)

    def _alternatives(self, schema: Mapping[str, Any]) -> str:
        types = types_of(schema, self._root, takes_nullable=False)
        for values in (schema.get("enum"), [schema["const"]] if "const" in schema else None):
            if isinstance(values, list):
                allowed = [value for value in values if types_of({"const": value}, {}) & types]
                return " | ".join(map(self._written, allowed or values))
        for name in ("anyOf", "oneOf"):
            if isinstance(choices := schema.get(name), list) and choices:
                return " | ".join(self.value(choice) for choice in choices)
        return " | ".join(self._of_type(name, schema) for name in self._types(schema))

    def _of_type(self, name: str, schema: Mapping[str, Any]) -> str:
        null, true, false = self._spelling.constants
        match name:
            case "string":
                return self._text(schema)
            case "integer" | "number":
                limits = {key: schema[key] for key in _NUMERIC & set(schema)}
                if limits:
                    return self._writer.json({"type": name, **limits})
                return _INTEGER if name == "integer" else _NUMBER
            case "boolean":
                return f'"{true}" | "{false}"'
            case "null":
                return f'"{null}"'
            case "array":
                return self._array(schema)
        return self._ruled_object(schema)

    def _array(self, schema: Mapping[str, Any]) -> str:
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if schema.get("items") is False or most == 0:
            return '"[" "]"'
        item = self.value(schema.get("items"))
        upto = "" if most is None else most - 1
        items = f'{item} ("{self._spelling.comma}" {item}){{{max(least - 1, 0)},{upto}}}'
        return f'"[" {items} "]"' if least else f'"[" ({items})? "]"'

    def _ruled_object(self, schema: Mapping[str, Any]) -> str:
        properties = properties_of(schema)
        if not properties:
            is_closed = schema.get("additionalProperties") is False
            return f'{json.dumps("{")} "}}"' if is_closed else self.any_object()
        colon = json.dumps(self._spelling.colon)
        keys = {key: f"{self._spelling.key(self._writer, key)} {colon}" for key in properties}
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
        return json.dumps(json.dumps(value))


def properties_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that a schema speaks of."""
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
