"""Which types a tool's schema allows a parameter, and what a bare text is then.

For notations that write strings without quotation marks. Called by their reader and by who writes
their grammars.
"""

import ast
import json
import math
from collections.abc import Mapping
from typing import Any

from gateway.notations.arguments import json_string

ALL_TYPES = frozenset({"string", "number", "integer", "boolean", "null", "array", "object"})
_MAX_REFERENCES = 16
# Python's parser takes some hundred bytes a character.
_MAX_LITERAL_CHARS = 100_000


class ParameterTypes:
    """The types of one tool's parameters."""

    def __init__(self, schema: Mapping[str, Any] | None) -> None:
        """schema: of all arguments; None for a tool that nobody knows."""
        self._schema = schema or {}
        properties = self._schema.get("properties")
        self._properties: Mapping[str, Any] = properties if isinstance(properties, dict) else {}

    def of(self, key: str) -> frozenset[str]:
        """Return the names of the types that a parameter may have; all where nothing is said."""
        return types_of(self._properties.get(key), self._schema)


def types_of(
    schema: Any, root: Mapping[str, Any], *, takes_nullable: bool = True
) -> frozenset[str]:
    """Return the names of the types that a schema allows; `number` goes with `integer`.

    root: where its references lead. takes_nullable: OpenAPI's keyword counts, which JSON Schema
    does not have.
    """
    return _Types(root, takes_nullable=takes_nullable).of(schema) or ALL_TYPES


class _Types:
    """Looks at each schema once, however often references lead to it."""

    def __init__(self, root: Mapping[str, Any], *, takes_nullable: bool) -> None:
        self._root = root
        self._takes_nullable = takes_nullable
        self._known: dict[int, frozenset[str] | None] = {}  # None: it is being looked at

    def of(self, schema: Any) -> frozenset[str] | None:
        """Return the types of a schema; None of one that leads to itself."""
        schema = resolved(schema, self._root)
        if not isinstance(schema, dict):
            return ALL_TYPES
        if id(schema) not in self._known:
            self._known[id(schema)] = None
            self._known[id(schema)] = self._of_object(schema)
        return self._known[id(schema)]

    def _of_object(self, schema: Mapping[str, Any]) -> frozenset[str]:
        allowed = ALL_TYPES
        match schema.get("type"):
            case str(name):
                allowed = _with_integers(frozenset({name}))
            case list(names):
                allowed = _with_integers(frozenset(n for n in names if isinstance(n, str)))
        if isinstance(values := schema.get("enum"), list):
            allowed &= frozenset().union(*map(_types_of_value, values))
        if "const" in schema:
            allowed &= _types_of_value(schema["const"])
        for name in ("anyOf", "oneOf"):
            if isinstance(choices := schema.get(name), list):
                allowed &= frozenset().union(*(self.of(c) or frozenset() for c in choices))
        parts = schema.get("allOf")
        for part in parts if isinstance(parts, list) else ():
            allowed &= self.of(part) or ALL_TYPES
        if self._takes_nullable and schema.get("nullable") is True:
            allowed |= {"null"}
        return allowed


def _with_integers(names: frozenset[str]) -> frozenset[str]:
    return names | {"integer"} if "number" in names else names


def resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    """Follow a schema's reference into `root`; what leads nowhere allows anything."""
    for _ in range(_MAX_REFERENCES):
        if not isinstance(schema, dict) or not isinstance(pointer := schema.get("$ref"), str):
            return schema
        schema = _at(root, pointer)
    return None


def value_of(text: str, types: frozenset[str]) -> str:
    """Return a bare text as JSON of the first type that it can be, else as a string."""
    word = text.strip()
    if "null" in types and word in ("null", "None"):
        return "null"
    if "boolean" in types and word.lower() in ("true", "false"):
        return word.lower()
    value = _decoded(word, may_be_python=bool(types & {"array", "object"}))
    if types & {"integer", "number"} and _is_number(value):
        # A whole number is an integer, however it is written: 3.0.
        if "number" in types:
            return word
        if isinstance(value, int) or value.is_integer():
            return str(int(value))
        if "string" not in types:
            return word
    if "array" in types and isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if "object" in types and isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return json_string(text)


def _decoded(word: str, *, may_be_python: bool) -> Any:
    """Return what a text is as JSON; as Python's literal, which some templates teach for lists and
    dictionaries; None if it is neither."""
    try:
        return json.loads(word, parse_constant=_refuse)
    except (ValueError, RecursionError):
        pass
    if not may_be_python or word[:1] not in ("[", "{") or len(word) > _MAX_LITERAL_CHARS:
        return None
    try:
        value = ast.literal_eval(word)
        json.dumps(value, allow_nan=False)  # sets and bytes are no JSON
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _types_of_value(value: Any) -> frozenset[str]:
    match value:
        case bool():
            return frozenset({"boolean"})
        case int():
            return frozenset({"integer", "number"})
        case float():
            return frozenset({"number"})
        case str():
            return frozenset({"string"})
        case None:
            return frozenset({"null"})
        case list():
            return frozenset({"array"})
    return frozenset({"object"})


def _at(root: Mapping[str, Any], pointer: str) -> Any:
    if not pointer.startswith("#"):
        return None
    found: Any = root
    for part in pointer[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found
