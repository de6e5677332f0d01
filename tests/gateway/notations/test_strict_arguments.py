"""Arguments in notations that are not JSON obey their schema, or it is said what they need not.

The texts go through the grammar as a model's would, and through the parser.
"""

from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from backend.wire.sampling import Grammar
from gateway.notations.grammars import CallsGrammar
from gateway.notations.library import builtin
from tests.gateway.notations.parsing import called, parse
from tests.gateway.notations.test_grammars import accepts, json_of, served, written

# One of each spelling.
NOT_JSON = ("qwen3-coder", "glm", "gemma4", "pythonic", "deepseek-v4", "kimi-k3", "minimax-m3")
DEFINITIONS = {
    "Point": {
        "type": "object",
        "properties": {"x": {"type": "integer", "minimum": 0}},
        "required": ["x"],
        "additionalProperties": False,
    },
    "Tree": {
        "type": "object",
        "properties": {"sub": {"type": "array", "items": {"$ref": "#/$defs/Tree"}, "maxItems": 2}},
        "additionalProperties": False,
    },
}
# A schema, values that obey it, and values that do not.
FORMATS = Draft202012Validator.FORMAT_CHECKER
CASES: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "pattern": ({"type": "string", "pattern": "^[A-Z]{2}/[0-9]+$"}, ["AB/1"], ["ab/1", "AB/", ""]),
    "pattern-within": ({"type": "string", "pattern": "b+|^c"}, ["abb", "cx"], ["ac", ""]),
    "pattern-digits": ({"type": "string", "pattern": r"^[\d-]+$"}, ["1-2"], ["a"]),
    "length": ({"type": "string", "minLength": 2, "maxLength": 3}, ["äö", "😀bc"], ["a", "abcd"]),
    "date": ({"type": "string", "format": "date"}, ["2024-02-29"], ["2024-02-30", "x"]),
    "uuid-or-null": (
        {"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}]},
        ["123e4567-e89b-12d3-a456-426614174000", None],
        ["123e4567", "nul", 1],
    ),
    "range": ({"type": "integer", "minimum": 3, "exclusiveMaximum": 11}, [3, 10], [2, 11, "x"]),
    "multiple": ({"type": "number", "multipleOf": 5}, [5, -10], [3]),
    "decimals": ({"type": "number", "minimum": 0.5}, [0.5, 2], [0.25, -1]),
    "enum-numbers": ({"enum": [1, 2.5]}, [1, 2.5], [2, "a"]),
    "enum-mixed": ({"enum": ["auto", 1, None, True]}, ["auto", 1, None, True], ["x", 2, False]),
    "enum-of-type": ({"type": "integer", "enum": [1, "a"]}, [1], ["a", 2]),
    "const": ({"const": "exactly"}, ["exactly"], ["other"]),
    "const-object": ({"const": {"a": [1]}}, [{"a": [1]}], [{"a": [2]}, {}]),
    "enum-or-null": (
        {"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}, ["a", None], ["c", 1, "nil"],
    ),
    "literal-or-number": (
        {"anyOf": [{"enum": ["auto"]}, {"type": "integer"}]}, ["auto", 7], ["x", 2.5, True],
    ),
    "short-or-array": (
        {"anyOf": [{"type": "string", "maxLength": 3},
                   {"type": "array", "items": {"type": "integer", "maximum": 9}, "minItems": 1}]},
        ["abc", [9, 1]],
        ["abcd", [], [10]],
    ),
    "items": (
        {"type": "array", "items": {"type": "string", "maxLength": 2}, "minItems": 1,
         "maxItems": 2},
        [["a"], ["ab", ""]],
        [[], ["abc"], ["a", "b", "c"]],
    ),
    "prefix": (
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": False, "minItems": 1},
        [[1]],
        [["a"], [1, 2], []],
    ),
    "closed": (
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False},
        [{}, {"a": 1}],
        [{"b": 1}, {"a": "x"}],
    ),
    "map": (
        {"type": "object", "additionalProperties": {"type": "integer"}}, [{"b": 1}], [{"b": "x"}],
    ),
    "any-object": ({"type": "object"}, [{}, {"b": [1, "x", None]}], [1, "x", [1]]),
    "count": (
        {"type": "object", "minProperties": 1, "additionalProperties": {"type": "boolean"}},
        [{"b": True}],
        [{}, {"b": 1}],
    ),
    "needed": (
        {"type": "object", "required": ["é b"], "properties": {"é b": {"type": "integer"}}},
        [{"é b": 1}],
        [{}, {"é b": "x"}],
    ),
    "reference": ({"$ref": "#/$defs/Point"}, [{"x": 0}], [{"x": -1}, {}, {"x": 0, "y": 1}]),
    "recursive": (
        {"$ref": "#/$defs/Tree"}, [{"sub": [{}, {"sub": []}]}], [{"sub": [{}, {}, {}]}, {"x": 1}],
    ),
    "all-of": (
        {"allOf": [{"type": "string", "minLength": 2}, {"pattern": "^a"}]}, ["ab"], ["a", "bb"],
    ),
    "boolean": ({"type": "boolean"}, [True, False], [None, 1, "maybe"]),
    "two-types": ({"type": ["string", "integer"]}, ["a b", 5], [None, {"a": 1}]),
}  # fmt: skip
# What bare strings cannot be told from, or who writes parameters one by one cannot count.
NOT_CARRIED: dict[str, tuple[Any, str]] = {
    "limited-number-or-string": (
        {"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer", "minimum": 1}]},
        "properties.v.anyOf[1].minimum",
    ),
    "ambiguous-enum": ({"enum": ["1", 1]}, "properties.v.enum[0]"),
    "anchor-within": ({"type": "string", "pattern": "(^a|b)c"}, "properties.v.pattern"),
}


@cache
def writer_of(name: str, case: str) -> tuple[CallsGrammar, Grammar, Grammar]:
    schema = (CASES.get(case) or NOT_CARRIED[case])[0]
    writer = CallsGrammar(served(name), [("f", root(schema))], allows_parallel=True)
    demanded = writer.demanded()
    return (
        writer,
        demanded,
        CallsGrammar(served(name), [("f", root(schema))], allows_parallel=True).held(),
    )


def root(schema: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"v": schema},
        "required": ["v"],
        "additionalProperties": False,
        "$defs": DEFINITIONS,
    }


def texts_of(name: str, case: str, value: Any) -> list[str]:
    """Return the call as templates write it, and with the values in JSON where that is read."""
    texts = [written(name, [("f", {"v": value})])]
    if name == "minimax-m3":
        # A text is a text in any form.
        texts.append(written(name, [("f", {"v": value if type(value) is str else json_of(value)})]))
    if name in ("gemma4", "pythonic"):
        inner = json_of(value)
        form = builtin(name).calls[0]
        call = form.call.replace("{name}", "f")
        call = call.replace("{arguments}", f"{{v:{inner}}}").replace("{keywords}", f"v={inner}")
        texts.append(form.section.replace("{calls}", call))
    return texts


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NOT_JSON)
def test_arguments_obey_every_keyword(name: str, case: str) -> None:
    schema, good, bad = CASES[case]
    writer, *grammars = writer_of(name, case)
    assert writer.shortfalls == []
    validator = Draft202012Validator(root(schema), format_checker=FORMATS)
    for grammar in grammars:
        for number, value in enumerate(good + bad):
            taken = [text for text in texts_of(name, case, value) if accepts(grammar, text)]
            assert taken or number >= len(good), value
            for text in taken:
                [(_, arguments)] = called(parse([text], served(name).form, {"f": root(schema)}))
                validator.validate(arguments)
                # A bare text is read as what it may be: "1" where a number may not.
                assert value in good or arguments != {"v": value}


@pytest.mark.parametrize("case", NOT_CARRIED)
def test_what_bare_strings_cannot_carry_is_named(case: str) -> None:
    for name in ("qwen3-coder", "glm"):
        assert writer_of(name, case)[0].shortfalls[0].path == NOT_CARRIED[case][1]
        assert accepts(writer_of(name, case)[1], written(name, [("f", {"v": "abc"})]))
    # Between anchors only JSON's own strings can be searched.
    assert writer_of("gemma4", case)[0].shortfalls == []
    assert writer_of("pythonic", case)[0].shortfalls == []
    says_types = [each.path for each in writer_of("kimi-k3", case)[0].shortfalls]
    assert bool(says_types) == (case == "anchor-within")


OPEN = {"type": "object"}
WHOLE: dict[str, tuple[dict[str, Any], str]] = {
    "one-of-two": (
        {"properties": {"v": {}}, "anyOf": [{"required": ["v"]}, {"required": ["w"]}]},
        "anyOf",
    ),
    "some": ({"properties": {"v": {}}, "required": ["v"], "minProperties": 2}, "minProperties"),
    "named": ({"properties": {"a>b": {}, "v": {}}, "patternProperties": {"^x": {}}}, ""),
}


@pytest.mark.parametrize("name", NOT_JSON)
@pytest.mark.parametrize("case", WHOLE)
def test_what_all_arguments_must_be_is_named_or_held(name: str, case: str) -> None:
    schema, path = WHOLE[case]
    writer = CallsGrammar(served(name), [("f", {**OPEN, **schema})], allows_parallel=True)
    grammar = writer.demanded()
    paths = {each.path for each in writer.shortfalls}
    if name == "gemma4":
        assert not paths
    elif path:
        assert paths == {path}
    else:
        assert "patternProperties" in paths
        # A key may be anything but the mark behind it.
        assert ("properties.a>b" in paths) == (name in ("qwen3-coder", "pythonic", "minimax-m3"))
    in_json = '<|tool_call>call:f{"v": "x", "w": 1}<tool_call|>'
    assert accepts(grammar, in_json if name == "gemma4" else written(name, [("f", {"v": "x"})]))


@pytest.mark.parametrize("name", NOT_JSON)
def test_required_without_schema_is_written_all_the_same(name: str) -> None:
    schema = {**OPEN, "required": ["v"], "additionalProperties": {"type": "integer"}}
    grammar = CallsGrammar(served(name), [("f", schema)], allows_parallel=True).demanded()
    in_json = '<|tool_call>call:f{{"v": {}}}<tool_call|>'
    for value, is_good in ((5, True), ("x", False)):
        text = in_json.format(json_of(value)) if name == "gemma4" else texts_of(name, "", value)[-1]
        assert accepts(grammar, text) == is_good
    assert not accepts(grammar, written(name, [("f", {})]))


@pytest.mark.parametrize("name", NOT_JSON)
def test_tool_without_a_schema_takes_any_arguments(name: str) -> None:
    grammar = CallsGrammar(served(name), [("f", OPEN)], allows_parallel=True).demanded()
    for arguments in ({}, {"a": "b", "c": [1]}):
        assert accepts(grammar, written(name, [("f", arguments)]))


def test_references_on_many_ways_take_no_time() -> None:
    """Three references of a schema to itself kept the reader of bare texts busy for ever."""
    again = [{"$ref": "#/$defs/a"}] * 4
    schema = {"properties": {"v": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"anyOf": again}}}
    text = written("qwen3-coder", [("f", {"v": "x"})])
    assert called(parse([text], served("qwen3-coder").form, {"f": schema})) == (("f", {"v": "x"}),)
    CallsGrammar(served("qwen3-coder"), [("f", schema)], allows_parallel=True).demanded()
