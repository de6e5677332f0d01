"""The search for what must go, with a judge that is made up."""

from collections.abc import Iterator
from typing import Any

import pytest

from backend.structured_output.json_schema import PreparedSchema, SchemaFault
from backend.structured_output.schema_loosening import enforceable

Schema = dict[str, Any]


def parts(schema: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, list):
        for each in schema:
            yield from parts(each)
    if isinstance(schema, dict):
        for key, value in schema.items():
            yield key, value
            yield from parts(value)


class Judge:
    """Takes no schema that holds one of some (keyword, value). Counts what it is asked."""

    def __init__(self, *refused: tuple[str, Any]) -> None:
        self.num_asked = 0
        self._refused = refused

    def __call__(self, schema: Schema) -> None:
        self.num_asked += 1
        for part in parts(schema):
            if part in self._refused:
                raise ValueError(f"{part[0]} {part[1]} is beyond me")


def of(schema: Schema, judge: Judge, *, is_strict: bool = False) -> PreparedSchema:
    return enforceable(PreparedSchema(schema, ["before"]), judge, is_strict=is_strict)


TEXTS = {f"p{n}": {"type": "string", "pattern": f"x{n}", "maxLength": n} for n in range(40)}
WIDE: Schema = {"type": "object", "properties": TEXTS, "required": ["p1"]}


def test_schema_that_can_be_used_is_tried_once() -> None:
    judge = Judge()
    assert of(WIDE, judge) == PreparedSchema(WIDE, ["before"])
    assert judge.num_asked == 1


def test_only_what_is_to_blame_goes() -> None:
    judge = Judge(("pattern", "x7"), ("maxLength", 30))
    found = of(WIDE, judge)
    assert sorted(found.not_enforced) == [
        "before",
        "properties.p30.maxLength",
        "properties.p7.pattern",
    ]
    assert found.schema["properties"]["p7"] == {"type": "string", "maxLength": 7}
    assert found.schema["properties"]["p30"] == {"type": "string", "pattern": "x30"}
    assert found.schema["properties"]["p8"] == TEXTS["p8"]
    assert judge.num_asked < 40


def test_too_many_to_search_for_go_with_all_refinements() -> None:
    found = of(WIDE, Judge(*(("pattern", f"x{n}") for n in range(0, 40, 2))))
    assert found.schema == {
        "type": "object",
        "properties": {name: {"type": "string"} for name in TEXTS},
        "required": ["p1"],
    }
    assert len(found.not_enforced) == 1 + 80


def test_exactly_one_becomes_at_least_one() -> None:
    schema = {"items": {"oneOf": [{"const": 1}, {"type": "integer"}], "title": "oneOf"}}
    found = of(schema, Judge(("oneOf", schema["items"]["oneOf"])))
    assert found.schema == {"items": {"anyOf": schema["items"]["oneOf"], "title": "oneOf"}}
    assert found.not_enforced == ["before", "items.oneOf"]


def test_properties_may_be_called_like_keywords() -> None:
    schema: Schema = {"properties": {"type": {"pattern": "bad"}, "enum": {"pattern": "good"}}}
    found = of(schema, Judge(("pattern", "bad")))
    assert found.schema == {"properties": {"type": {}, "enum": {"pattern": "good"}}}
    assert found.not_enforced == ["before", "properties.type.pattern"]


def test_strict_search_ends_at_the_first() -> None:
    with pytest.raises(SchemaFault, match="pattern x7 is beyond me") as caught:
        of(WIDE, Judge(("pattern", "x7"), ("pattern", "x9")), is_strict=True)
    assert caught.value.path == "properties.p7.pattern"


def test_nothing_to_do_without_is_an_error() -> None:
    with pytest.raises(ValueError, match="title t is beyond me"):
        of({"title": "t", "type": "string"}, Judge(("title", "t")))
