"""Makes of a client's JSON schema one that an output can be held to, and names what is left out.

Owns which keywords the grammar library enforces, how those are told that it takes in one spelling
only, and where each stands in the schema. Must not know how a grammar is compiled, nor requests.
Called by the gateway's process that compiles grammars.

A keyword is named by its path, as in `properties.tags.uniqueItems`. What is left out is left out of
the grammar alone: an output may still obey it, as it may obey a description.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

Schema = dict[str, Any]

# Keywords of JSON Schema, draft 4 to 2020-12, that llguidance 1.9.1 does not know.
UNENFORCED = frozenset(
    "not if then else contains minContains maxContains uniqueItems propertyNames dependencies "
    "dependentRequired dependentSchemas unevaluatedProperties unevaluatedItems $dynamicRef "
    "$recursiveRef".split()
)
# Those of them that say nothing without another.
_NEEDS = {
    "then": "if",
    "else": "if",
    "minContains": "contains",
    "maxContains": "contains",
}
# A validator takes any format for an annotation unless it was told otherwise.
FORMATS = frozenset("date-time time date duration email hostname ipv4 ipv6 uuid uri".split())
TYPES = frozenset("null boolean integer number string array object".split())
_MAPS = frozenset(("properties", "patternProperties", "$defs", "definitions"))
_LISTS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_IN_PLACE = frozenset(("allOf", "anyOf", "oneOf", "$ref", *UNENFORCED))
# More decimals take an automaton for each; nobody writes them.
_MAX_DECIMALS = 9


class SchemaFault(ValueError):
    """A keyword that no output can be held to. The message is one line, for the caller."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path or 'the schema'}: {reason}")
        self.path = path


@dataclass(slots=True)
class PreparedSchema:
    """schema: what the library can enforce. not_enforced: the paths of what it leaves out."""

    schema: Schema
    not_enforced: list[str] = field(default_factory=list)


def prepare(schema: Schema, *, is_strict: bool) -> PreparedSchema:
    """Return a schema without what cannot be enforced.

    is_strict: objects that name properties have no others unless they say so, and what cannot be
    enforced, or means nothing, raises SchemaFault; formats that are not known remain annotations.
    """
    walker = _Walker(is_strict=is_strict)
    if is_strict:
        walker.composed = frozenset(_composed_refs(schema))
    return PreparedSchema(walker.object(schema, ""), walker.not_enforced)


class _Walker:
    def __init__(self, *, is_strict: bool) -> None:
        self.not_enforced: list[str] = []
        self.composed: frozenset[str] = frozenset()
        self._is_strict = is_strict

    def object(self, schema: Schema, path: str, *, is_composed: bool = False) -> Schema:
        """Return what is left of a schema. is_composed: others apply to the same value."""
        kept: Schema = {}
        multiples: list[Schema] = []
        for keyword, value in schema.items():
            where = _joined(path, keyword)
            if keyword in UNENFORCED:
                if _NEEDS.get(keyword, keyword) in schema:
                    self._leave_out(where, "it cannot be enforced")
            elif (fault := _fault(keyword, value)) is not None:
                self._leave_out(where, fault)
            elif keyword == "format" and value not in FORMATS:
                self.not_enforced.append(where)
            elif keyword == "multipleOf":
                multiples.append(self._multiple(schema, value, where))
            elif keyword in _COUNTS:
                kept[keyword] = int(value)
            else:
                composes = keyword in _IN_PLACE and (is_composed or _has_others(schema, keyword))
                kept[keyword] = self._value(keyword, value, where, is_composed=composes)
        if self._is_strict and not is_composed and self._is_open(schema, path):
            kept["additionalProperties"] = False
        for multiple in multiples:
            if "anyOf" in multiple:
                kept["allOf"] = [*kept.get("allOf", []), multiple]
            else:
                kept |= multiple
        return kept

    def _value(self, keyword: str, value: Any, where: str, *, is_composed: bool) -> Any:
        if keyword in _MAPS:
            return {name: self._schema(each, _joined(where, name)) for name, each in value.items()}
        if keyword in _LISTS or (keyword == "items" and isinstance(value, list)):
            is_composed = is_composed or (keyword == "allOf" and len(value) > 1)
            return [
                self._schema(each, f"{where}[{number}]", is_composed=is_composed)
                for number, each in enumerate(value)
            ]
        if keyword in ("items", "additionalProperties", "additionalItems"):
            return self._schema(value, where)
        return value

    def _schema(self, schema: Any, path: str, *, is_composed: bool = False) -> Any:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            self._leave_out(path, "it is no schema")
            return True
        return self.object(schema, path, is_composed=is_composed)

    def _leave_out(self, where: str, reason: str) -> None:
        if self._is_strict:
            raise SchemaFault(where, reason)
        self.not_enforced.append(where)

    def _is_open(self, schema: Schema, path: str) -> bool:
        """Say whether an object may have members that nobody has spoken of."""
        if "properties" not in schema or path in self.composed:
            return False
        return not any(
            keyword in schema
            for keyword in ("additionalProperties", "patternProperties", *_IN_PLACE)
        )

    def _multiple(self, schema: Schema, value: float, where: str) -> Schema:
        """Return what allows multiples however many decimals they have.

        The library wants none or as many as the divisor has: of 0.25 it takes 0.50, and not 0.5.
        """
        _, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
        assert isinstance(exponent, int), "a number of JSON is finite"
        if exponent >= 0:
            return {"multipleOf": int(value)}
        if -exponent > _MAX_DECIMALS:
            self._leave_out(where, f"it has more than {_MAX_DECIMALS} decimals")
            return {}
        divisor = int("".join(map(str, digits)))
        branches: list[Schema] = []
        for decimals in range(-exponent + 1):
            # n / 10**decimals is a multiple of divisor / 10**-exponent if n is one of this:
            step = divisor // math.gcd(divisor, 10 ** (-exponent - decimals))
            multiple = step if decimals == 0 else float(Decimal(step).scaleb(-decimals))
            branches.append({"type": "number", "multipleOf": multiple})
        given = schema.get("type", sorted(TYPES - {"integer"}))
        types = [given] if isinstance(given, str) else list(given)
        if "number" not in types:
            branches = [{"type": "integer", "multipleOf": branches[0]["multipleOf"]}]
        others = [name for name in types if name not in ("number", "integer")]
        return {"anyOf": [*branches, *([{"type": others}] if others else [])]}


def declared_names(schema: Any) -> set[str]:
    """Return the names of all properties of objects that may have others, too.

    None where no object of the schema may; "" among them where objects count their members. An
    output that has such a name twice may break the schema once it is read: the last one counts.
    """
    names: set[str] = set()
    for each in _schemas(schema):
        if each.get("additionalProperties") is False and not each.get("patternProperties"):
            continue
        own = [name for key in ("properties", "required") for name in _listed(each.get(key))]
        names.update(name for name in own if isinstance(name, str))
        if each.get("patternProperties") or each.get("minProperties") or each.get("maxProperties"):
            names.add("")
    return names


def _schemas(schema: Any) -> Iterable[Schema]:
    """Return a schema and those in it, prepared ones."""
    if not isinstance(schema, dict):
        return
    yield schema
    for keyword, value in schema.items():
        if keyword in _MAPS and isinstance(value, dict):
            children = list(value.values())
        elif keyword in _LISTS or (keyword == "items" and isinstance(value, list)):
            children = _listed(value)
        elif keyword in ("items", "additionalProperties", "additionalItems"):
            children = [value]
        else:
            continue
        for child in children:
            yield from _schemas(child)


def _composed_refs(schema: Any, *, is_composed: bool = False) -> Iterable[str]:
    """Return the paths of what is referred to where other schemas apply to the same value."""
    if isinstance(schema, list):
        for each in schema:
            yield from _composed_refs(each, is_composed=is_composed)
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        if keyword in _IN_PLACE or keyword == "$ref":
            composes = is_composed or _has_others(schema, keyword)
            composes = composes or (
                keyword == "allOf" and isinstance(value, list) and len(value) > 1
            )
            if keyword == "$ref" and composes and isinstance(value, str):
                yield value.removeprefix("#").removeprefix("/").replace("/", ".")
            yield from _composed_refs(value, is_composed=composes)
        elif isinstance(value, dict) and keyword in _MAPS:
            yield from _composed_refs(list(value.values()))
        else:
            yield from _composed_refs(value)


def _has_others(schema: Schema, keyword: str) -> bool:
    """Say whether keywords beside this one say something of the members of an object."""
    return any(
        other in schema
        for other in ("properties", "additionalProperties", "patternProperties", *_IN_PLACE)
        if other != keyword
    )


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | dict) else []


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _is_type(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value
    return _is_list(names) and all(isinstance(name, str) and name in TYPES for name in names)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
# keyword -> (whether a value means something, what it must be)
_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = (
    dict.fromkeys(_COUNTS, (_is_count, "it must be a whole number, not negative"))
    | dict.fromkeys(("minimum", "maximum"), (_is_number, "it must be a number"))
    | dict.fromkeys(
        ("exclusiveMinimum", "exclusiveMaximum"),
        (lambda value: isinstance(value, int | float), "it must be a number"),
    )
    | dict.fromkeys(_MAPS, (lambda value: isinstance(value, dict), "it must be an object"))
    | dict.fromkeys(_LISTS, (_is_list, "it must be an array of schemas"))
    | dict.fromkeys(
        ("pattern", "format", "$ref"), (lambda value: isinstance(value, str), "it must be a string")
    )
    | dict.fromkeys(
        ("additionalProperties", "additionalItems"),
        (lambda value: isinstance(value, dict | bool), "it must be a schema"),
    )
    | {
        "items": (lambda value: isinstance(value, dict | bool | list), "it must be a schema"),
        "multipleOf": (lambda value: _is_number(value) and value > 0, "it must be above 0"),
        "type": (_is_type, "it must be one of the seven types, or an array of them"),
        "enum": (_is_list, "it must be an array of values"),
        "required": (_are_texts, "it must be an array of names"),
    }
)


def _fault(keyword: str, value: Any) -> str | None:
    """Say why a value means nothing; None if it does."""
    known = _VALUES.get(keyword)
    return None if known is None or known[0](value) else known[1]
