"""What is left of schemas, what is named, and that outputs are what a validator takes."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.structured_output.json_schema import (
    FORMATS,
    UNENFORCED,
    SchemaFault,
    declared_names,
    prepare,
)
from tests.backend.structured_output.test_grammar import accepts
from tests.schemas import SCHEMAS


def lenient(schema: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    prepared = prepare(schema, is_strict=False)
    return prepared.schema, prepared.not_enforced


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    return prepare(schema, is_strict=True).schema


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_that_can_be_enforced_stays_as_it_is(name: str) -> None:
    assert lenient(SCHEMAS[name]) == (SCHEMAS[name], [])


@pytest.mark.parametrize(
    "keyword", sorted(UNENFORCED - {"then", "else"} - {"minContains", "maxContains"})
)
def test_keyword_that_cannot_be_enforced_is_named(keyword: str) -> None:
    schema = {"type": "object", "properties": {"a": {"items": {keyword: {}, "type": "string"}}}}
    left, not_enforced = lenient(schema)
    assert left == {"type": "object", "properties": {"a": {"items": {"type": "string"}}}}
    assert not_enforced == [f"properties.a.items.{keyword}"]
    with pytest.raises(SchemaFault, match="it cannot be enforced") as caught:
        strict(schema)
    assert caught.value.path == f"properties.a.items.{keyword}"


def test_keyword_that_says_nothing_alone_is_not_named() -> None:
    assert lenient({"then": {"minLength": 1}, "maxContains": 2}) == ({}, [])
    assert lenient({"if": {}, "then": {}})[1] == ["if", "then"]


def test_name_of_a_property_is_no_keyword() -> None:
    schema = {"properties": {"not": {"type": "string"}, "format": {"const": 1}, "properties": {}}}
    assert lenient(schema) == (schema, [])


MEANINGLESS: list[tuple[str, Any]] = [
    ("properties", None),
    ("properties", []),
    ("items", None),
    ("required", True),
    ("required", None),
    ("required", [1]),
    ("type", "text"),
    ("type", None),
    ("type", []),
    ("enum", []),
    ("anyOf", None),
    ("minLength", -1),
    ("maxItems", 1.5),
    ("minProperties", True),
    ("minimum", "0"),
    ("multipleOf", 0),
    ("pattern", 3),
    ("format", None),
    ("$ref", None),
    ("additionalProperties", None),
]


@pytest.mark.parametrize(("keyword", "value"), MEANINGLESS)
def test_value_that_means_nothing_is_left_out_by_name(keyword: str, value: Any) -> None:
    schema = {"title": "t", keyword: value}
    assert lenient({"allOf": [schema]}) == ({"allOf": [{"title": "t"}]}, [f"allOf[0].{keyword}"])
    with pytest.raises(SchemaFault, match="it must be") as caught:
        strict(schema)
    assert caught.value.path == keyword


def test_what_is_no_schema_is_any_value() -> None:
    assert lenient({"properties": {"a": None}}) == ({"properties": {"a": True}}, ["properties.a"])
    with pytest.raises(SchemaFault, match=r"properties\.a: it is no schema"):
        strict({"properties": {"a": 3}})


def test_whole_numbers_may_be_written_with_a_fraction() -> None:
    assert lenient({"maxLength": 5.0}) == ({"maxLength": 5}, [])


@pytest.mark.parametrize("is_strict", [True, False])
def test_format_that_is_not_known_is_an_annotation(is_strict: bool) -> None:
    """A validator takes it for one; here it was a 400."""
    for name in ("path", "password", "binary", "uri-reference", "iri"):
        prepared = prepare({"type": "string", "format": name}, is_strict=is_strict)
        assert (prepared.schema, prepared.not_enforced) == ({"type": "string"}, ["format"])
    for name in FORMATS:
        prepared = prepare({"type": "string", "format": name}, is_strict=is_strict)
        assert prepared.not_enforced == [] and prepared.schema["format"] == name


NUMBERS = ["0", "1", "-2", "3", "0.5", "0.50", "0.25", "-0.75", "1.5", "0.3", "0.1", "2.125", "7.2"]


@pytest.mark.parametrize("divisor", [0.25, 0.1, 2.5, 0.4, 1, 3, 0.125, 2.0, 1e-3])
@pytest.mark.parametrize("limits", [{}, {"minimum": 0}, {"exclusiveMaximum": 2}])
def test_multiples_may_be_written_as_people_write_them(
    divisor: float, limits: dict[str, float]
) -> None:
    """Of 0.25, 0.50 was a multiple and 0.5 was not."""
    schema = {"type": "number", "multipleOf": divisor, **limits}
    prepared, not_enforced = lenient(schema)
    assert not_enforced == []
    for text in NUMBERS:
        number = float(text)
        is_multiple = abs(number / divisor - round(number / divisor)) < 1e-9
        is_inside = not limits or (number >= 0 if "minimum" in limits else number < 2)
        # A last zero that says nothing is not asked of anyone.
        if not (is_multiple and is_inside and text == "0.50"):
            assert accepts(prepared, text) == (is_multiple and is_inside), text


@given(
    st.sampled_from([0.01, 0.02, 0.05, 0.25, 0.5, 1.25, 5]), st.integers(-300, 300), st.booleans()
)
def test_every_multiple_is_allowed_and_nothing_else(
    divisor: float, factor: int, is_shifted: bool
) -> None:
    prepared, _ = lenient({"type": "number", "multipleOf": divisor})
    number = round(divisor * factor + (divisor / 10 if is_shifted else 0), 4)
    text = json.dumps(int(number) if number == int(number) else number)
    assert accepts(prepared, text) is not is_shifted


def test_multiples_beside_other_types_leave_these_alone() -> None:
    for types in (["number", "null", "string"], None):
        schema = {"multipleOf": 0.5} | ({"type": types} if types else {})
        prepared, _ = lenient(schema)
        assert all(accepts(prepared, text) for text in ("null", '"x"', "1.5", "2"))
        assert not accepts(prepared, "0.3")
        assert accepts(prepared, "{}") is (types is None)
    integers, _ = lenient({"type": "integer", "multipleOf": 1.5})
    assert accepts(integers, "3") and not accepts(integers, "2") and not accepts(integers, "1.5")
    both, _ = lenient({"multipleOf": 0.5, "type": "number", "allOf": [{"minimum": 1}]})
    assert accepts(both, "1.5") and not accepts(both, "0.5") and not accepts(both, "1.2")
    assert lenient({"multipleOf": 1e-12})[1] == ["multipleOf"]


NAMED: dict[str, Any] = {"properties": {"a": {"properties": {"b": {}}}}}


def test_strict_objects_have_no_members_that_nobody_spoke_of() -> None:
    closed = {"additionalProperties": False}
    assert strict(NAMED) == {"properties": {"a": {"properties": {"b": {}}, **closed}}, **closed}
    assert lenient(NAMED) == (NAMED, [])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"properties": {"a": {}}, "additionalProperties": True},
        {"properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
        {"properties": {"a": {}}, "patternProperties": {"^x": {}}},
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}, {"required": ["a"]}]},
        {
            "$defs": {"base": {"properties": {"a": {}}}},
            "properties": {"b": {}},
            "allOf": [{"$ref": "#/$defs/base"}],
        },
    ],
)
def test_strict_objects_that_others_add_to_stay_open(schema: dict[str, Any]) -> None:
    assert strict(schema) == schema


def test_strict_alternatives_are_closed_each() -> None:
    either = strict({"anyOf": [NAMED, {"$ref": "#/$defs/x"}], "$defs": {"x": NAMED}})
    for schema in (either["anyOf"][0], either["$defs"]["x"]):
        assert schema["additionalProperties"] is False
    for text in ('{"a":{"b":1}}', '{"a":{}}'):
        assert accepts(either, text)
        jsonschema.validate(json.loads(text), either)


def test_names_that_an_answer_must_not_repeat_are_those_of_open_objects() -> None:
    assert declared_names(NAMED) == {"a", "b"}
    assert declared_names(strict(NAMED)) == set()
    assert declared_names({"items": {"required": ["r"], "minProperties": 2}}) == {"r", ""}
    assert declared_names({"type": "object"}) == declared_names(True) == set()
    assert declared_names({"properties": 3, "items": [NAMED]}) == {"a", "b"}
