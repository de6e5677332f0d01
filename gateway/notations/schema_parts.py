"""What a tool's schema says of one value in the arguments, however deep that is.

For notations whose values nest and stand bare. Branches of anyOf, oneOf and allOf are looked at
together: a member is what any of them says. Called by the reader of such a notation.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from gateway.notations.schema_types import ALL_TYPES, resolved, types_of

_BRANCHES = ("anyOf", "oneOf", "allOf")


class SchemaPart:
    """One value. Its members and items are made when they are asked for, and kept."""

    def __init__(self, schemas: Sequence[Any], root: Mapping[str, Any]) -> None:
        """schemas: what is said of the value; none where it may be anything. root: where their
        references lead."""
        self._schemas = schemas
        self._root = root
        self._members: dict[str, SchemaPart] = {}
        self._items: dict[int, SchemaPart] = {}

    @cached_property
    def types(self) -> frozenset[str]:
        """The names of the types that the value may have."""
        if not self._schemas:
            return ALL_TYPES
        return frozenset().union(*(types_of(each, self._root) for each in self._schemas))

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """Required members that may be null by name: where they are missing, they are."""
        ways = [way for way in self._ways if "properties" in way]
        if len(ways) != 1 or not isinstance(required := ways[0].get("required"), list):
            return ()
        return tuple(key for key in required if is_nullable(self.member(key).types))

    def has_member(self, key: str) -> bool:
        """Whether the schema names a member."""
        return any(key in _properties(way) for way in self._ways)

    def member(self, key: str) -> "SchemaPart":
        """Return what is said of a member."""
        if key not in self._members:
            found = [
                _properties(way)[key] if key in _properties(way) else way["additionalProperties"]
                for way in self._ways
                if key in _properties(way) or isinstance(way.get("additionalProperties"), dict)
            ]
            self._members[key] = SchemaPart(found, self._root)
        return self._members[key]

    def item(self, number: int) -> "SchemaPart":
        """Return what is said of an item."""
        first = [way["prefixItems"] for way in self._ways if _is_list(way.get("prefixItems"))]
        number = min(number, max(map(len, first), default=0))  # all behind those are alike
        if number not in self._items:
            found = [each[number] for each in first if number < len(each)]
            if not found:
                found = [way["items"] for way in self._ways if isinstance(way.get("items"), dict)]
            self._items[number] = SchemaPart(found, self._root)
        return self._items[number]

    @cached_property
    def _ways(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(_branches(self._schemas, self._root))


def is_nullable(types: frozenset[str]) -> bool:
    """Say whether null is one of some types, by name: not where a value may be anything."""
    return "null" in types and types != ALL_TYPES


def _branches(schemas: Sequence[Any], root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Return schemas and the branches of each, every one once."""
    left = list(reversed(schemas))
    seen = set()
    while left:
        schema = resolved(left.pop(), root)
        if not isinstance(schema, dict) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        for keyword in _BRANCHES:
            if isinstance(branches := schema.get(keyword), list):
                left += reversed(branches)


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _is_list(value: Any) -> bool:
    return isinstance(value, list)
