"""Parts of a JSON schema as schemas of their own, and which keywords mean nothing to an output.

A part may refer to the whole, so it takes along what it needs of that. Called by who writes
grammars.
"""

from collections.abc import Iterator, Mapping
from typing import Any

DEFINITIONS = ("$defs", "definitions")
ANNOTATIONS = frozenset(
    "title description default examples example deprecated readOnly writeOnly nullable "
    "$comment $id $schema $anchor id x-guidance $defs definitions".split()
)
_WHOLE = "whole"
_MAPS = ("properties", "patternProperties", *DEFINITIONS)
# What a value is beside a schema: nothing in it is one.
_VALUES = frozenset(("enum", "const", "default", "examples", "example", "required", "type"))


def keywords(schema: Mapping[str, Any]) -> set[str]:
    """Return the keywords of a schema that say something of an output."""
    return set(schema) - ANNOTATIONS


def document(part: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part of a schema as one that says the same by itself. root: the schema."""
    if part is True:
        return {}
    if part is False:
        return {"not": {}}
    pointers = set(_references(part))
    if not pointers:
        return dict(part)
    if (definitions := _definitions(pointers, root)) is not None:
        return {**part, **definitions}
    whole = {keyword: value for keyword, value in root.items() if keyword != "x-guidance"}
    moved: dict[str, Any] = _moved(part)
    return {**moved, "$defs": {**moved.get("$defs", {}), _WHOLE: _moved(whole)}}


def _definitions(pointers: set[str], root: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the definitions that references lead to, and those that these refer to.

    None if one leads elsewhere.
    """
    found: dict[str, Any] = {}
    left = set(pointers)
    while left:
        place, name = left.pop().removeprefix("#/").partition("/")[::2]
        group = root.get(place)
        if place not in DEFINITIONS or not isinstance(group, dict) or name not in group:
            return None
        if name not in found.setdefault(place, {}):
            found[place][name] = group[name]
            left |= set(_references(group[name]))
    return found


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for each in schema:
            yield from _references(each)
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        if keyword == "$ref" and isinstance(value, str):
            yield value
        elif keyword in _MAPS and isinstance(value, dict):
            yield from _references(list(value.values()))
        elif keyword not in _VALUES:
            yield from _references(value)


def _moved(schema: Any) -> Any:
    """Return a schema whose references lead into the whole, where that stands in $defs."""
    if isinstance(schema, list):
        return list(map(_moved, schema))
    if not isinstance(schema, dict):
        return schema
    moved: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "$ref" and isinstance(value, str) and value.startswith("#"):
            moved[keyword] = f"#/$defs/{_WHOLE}{value[1:]}"
        elif keyword in _MAPS and isinstance(value, dict):
            moved[keyword] = {name: _moved(each) for name, each in value.items()}
        else:
            moved[keyword] = value if keyword in _VALUES else _moved(value)
    return moved
