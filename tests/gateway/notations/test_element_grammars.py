"""Grammars of nested values accept what models write, and nothing that breaks a schema."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from backend.wire.sampling import Grammar
from gateway.notations.grammars import CallsGrammar
from tests.gateway.notations.parsing import called, parse
from tests.gateway.notations.test_elements import M3, NS, POINTS, SCHEMA
from tests.gateway.notations.test_grammars import END, TABLE, accepts, served, written

STRICT = {
    **SCHEMA,
    "$defs": {"point": {**SCHEMA["$defs"]["point"], "additionalProperties": False}},  # type: ignore[index]
    "additionalProperties": False,
}
TREE = {
    "type": "object",
    "properties": {"sub": {"type": "array", "items": {"$ref": "#/$defs/t"}, "maxItems": 2}},
}


@cache
def grammar_of_points() -> Grammar:
    return CallsGrammar(served(M3), [("f", STRICT)], allows_parallel=True).demanded()


@given(POINTS)
def test_nested_values_of_any_depth_are_accepted(value: dict[str, Any]) -> None:
    ordered = _ordered(value)
    assert accepts(grammar_of_points(), written(M3, [("f", ordered)]))


def _ordered(value: Any) -> Any:
    """Members come in the order of the schema."""
    if isinstance(value, list):
        return [_ordered(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: _ordered(value[key]) for key in SCHEMA["properties"] if key in value}


# A schema, texts that are accepted and mean a value which obeys it, and texts that are not.
CASES: dict[str, tuple[Any, list[str], list[str]]] = {
    "list": (
        {"type": "array", "items": {"type": "integer", "maximum": 9}, "minItems": 1, "maxItems": 2},
        ["@<item>1@</item>", "@<item>1@</item>@<item>9@</item>"],
        ["", "@<item>10@</item>", "@<item>@</item>", "[1]", "@<item>1@</item>" * 3,
         "@<day>1@</day>"],
    ),
    "no-items": ({"type": "array", "items": {"type": "string"}, "maxItems": 0}, [""], ["a", "[1]"]),
    "object": (
        {"type": "object", "properties": {"a": {"enum": ["x"]}, "b": {"type": "boolean"}},
         "required": ["b"], "additionalProperties": False},
        ["@<b>true@</b>", "@<a>x@</a>@<b>false@</b>"],
        ["", "@<a>x@</a>", "@<a>y@</a>@<b>true@</b>", "@<b>true@</a>", "@<b>true@</b>@<c>1@</c>",
         "@<b>True@</b>", "@<b>true"],
    ),
    "object-or-null": (
        {"anyOf": [{"type": "object", "properties": {"a": {"type": "integer"}}},
                   {"type": "null"}]},
        ["@<a>1@</a>", "", "null", '{"a": 1}'],
        ["@<a>x@</a>", "1", "nothing"],
    ),
    "list-or-text": (
        {"anyOf": [{"type": "array", "items": {"type": "integer"}},
                   {"type": "string", "minLength": 1}]},
        ["@<item>1@</item>", "[1]", "a"],
        ["", "@<item>x@</item>", '["x"]'],
    ),
    "list-or-object-with-items": (
        {"anyOf": [{"type": "array", "items": {"type": "integer"}},
                   {"type": "object", "properties": {"item": {"type": "string"}},
                    "required": ["item"]}]},
        ["[1]", '{"item": "x"}'],
        ["@<item>x@</item>"],
    ),
    "map": (
        {"type": "object", "additionalProperties": {"type": "integer"}},
        ['{"a": 1}'],
        ['{"a": "x"}', "@<a>x@</a>"],
    ),
    "nulls-in-lists": (
        {"type": "array", "items": {"type": ["integer", "null"]}},
        ["@<item>null@</item>@<item>1@</item>", ""],
        ["@<item>none@</item>"],
    ),
    "limited-together": (
        {"type": "object", "properties": {"a": {"type": "integer"}}, "minProperties": 1,
         "additionalProperties": False},
        ['{"a": 1}'],
        ["{}", "", '{"a": "x"}'],
    ),
    "tree": (
        {"$ref": "#/$defs/t"},
        ["@<sub>@</sub>", "@<sub>@<item>@<sub>@<item>@</item>@</sub>@</item>@</sub>"],
        ["@<sub>@<sub>@</sub>@</sub>", "@<sub>1@</sub>"],
    ),
    "anything": ({}, ["a", "", "@<a>1@</a>", "@<item>@<b>x@</b>@</item>"], ["@<a>1", "@</w>"]),
}  # fmt: skip


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_nested_values_obey_their_schema(case: str, special: bool) -> None:
    schema, good, bad = CASES[case]
    root = {"type": "object", "properties": {"v": schema}, "required": ["v"], "$defs": {"t": TREE}}
    notation = served(M3, special)
    writer = CallsGrammar(notation, [("f", root)], allows_parallel=True)
    for grammar in (
        writer.demanded(),
        CallsGrammar(notation, [("f", root)], allows_parallel=True).held(),
    ):
        for value in good:
            text = text_of(value)
            assert accepts_bytes(grammar, text, special), value
            [(_, arguments)] = called(parse([text], notation.form, {"f": root}))
            Draft202012Validator(root).validate(arguments)
        for value in bad:
            assert not accepts_bytes(grammar, text_of(value), special), value
    assert writer.shortfalls == []


def text_of(value: str) -> str:
    elements = f"@<v>{value}@</v>".replace("@", NS)
    return f'{NS}<tool_call>\n{NS}<invoke name="f">{elements}{NS}</invoke>\n{NS}</tool_call>'


def accepts_bytes(grammar: Grammar, text: str, special: bool) -> bool:
    if special:
        return accepts(grammar, text)
    matcher = TABLE.matcher(grammar)
    return all(map(matcher.accept, [*text.encode(), END]))


def test_required_value_that_may_be_null_may_be_left_out() -> None:
    null = {"type": ["string", "null"]}
    schema = {"properties": {"a": null, "b": {"type": "string"}}, "required": ["a", "b"]}
    grammar = CallsGrammar(served(M3), [("f", schema)], allows_parallel=True).demanded()
    assert accepts(grammar, written(M3, [("f", {"b": "x"})]))
    assert accepts(grammar, written(M3, [("f", {"a": "", "b": "x"})]))
    assert not accepts(grammar, written(M3, [("f", {"a": "x"})]))
