"""Which types a tool's schema allows a parameter, and what a bare text is then.

For notations that write strings without quotation marks. Called by their reader and by who writes
their grammars.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from gateway.notations.arguments import json_string

_ALL = frozenset({"string", "number", "integer", "boolean", "null", "array", "object"})
_MAX_REFERENCES = 16


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


def types_of(schema: Any, root: Mapping[str, Any], depth: int = 0) -> frozenset[str]:
    """Return the names of the types that a schema allows; root: where its references lead."""
    schema = resolved(schema, root)
    if not isinstance(schema, dict) or depth > _MAX_REFERENCES:
        return _ALL
    allowed = _ALL
    match schema.get("type"):
        case str(name):
            allowed = frozenset({name})
        case list(names):
            allowed = frozenset(name for name in names if isinstance(name, str))
    if isinstance(values := schema.get("enum"), list):
        allowed &= frozenset().union(*map(_types_of_value, values))
    if "const" in schema:
        allowed &= _types_of_value(schema["const"])
    for name in ("anyOf", "oneOf"):
        if isinstance(choices := schema.get(name), list):
            allowed &= frozenset().union(*(types_of(c, root, depth + 1) for c in choices))
    for part in schema.get("allOf") or ():
        allowed &= types_of(part, root, depth + 1)
    if schema.get("nullable") is True:
        allowed |= {"null"}
    return allowed or _ALL


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
    value = _decoded(word)
    if types & {"integer", "number"} and _is_number(value):
        # A whole number is an integer, however it is written: 3.0.
        is_whole = "integer" in types and "number" not in types and float(value).is_integer()
        return str(int(value)) if is_whole else word
    if "array" in types and isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if "object" in types and isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return json_string(text)


def _decoded(word: str) -> Any:
    try:
        return json.loads(word)
    except (ValueError, RecursionError):
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


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
