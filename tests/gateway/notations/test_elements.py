"""Arguments that nest in tags named by their keys become JSON, however the text was cut."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.notations.library import builtin
from tests.gateway.notations.parsing import called, cut, events_of, notation, parse, streamed
from tests.gateway.notations.test_grammars import written

M3 = "minimax-m3"
NS = builtin(M3).calls[0].tag_prefix
POINT = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "at": {"anyOf": [{"$ref": "#/$defs/point"}, {"type": "null"}]},
        "size": {"type": ["integer", "null"]},
        "points": {"type": "array", "items": {"$ref": "#/$defs/point"}},
    },
    "required": ["name", "size", "at"],
}
SCHEMA = {**POINT, "$defs": {"point": POINT}}
TEXTS = st.text(alphabet='a1 <>]/[é\n"\\', max_size=8)
POINTS = st.recursive(
    st.fixed_dictionaries(
        {"name": TEXTS, "size": st.none() | st.integers(), "at": st.none()},
        optional={"tags": st.lists(TEXTS, max_size=3)},
    ),
    lambda inner: st.fixed_dictionaries(
        {"name": TEXTS, "size": st.none(), "at": st.none() | inner},
        optional={"points": st.lists(inner, max_size=3)},
    ),
    max_leaves=6,
)
CUTS = st.lists(st.integers(0, 900), max_size=20)


def arguments_of(elements: str, schema: Any, pieces: Any = None) -> Any:
    call = f'{NS}<tool_call>\n{NS}<invoke name="f">{elements}{NS}</invoke>\n{NS}</tool_call>'
    call = call.replace("@", NS)
    answer = parse(pieces or [call], notation(M3, M3), {"f": schema})
    assert answer.text == ""
    [(_, arguments)] = called(answer)
    return arguments


@given(POINTS, CUTS)
def test_nested_values_are_read_back_from_any_cuts(value: dict[str, Any], cuts: list[int]) -> None:
    text = written(M3, [("f", value)])
    answer = parse(cut(text, cuts), notation(M3), {"f": SCHEMA})
    assert called(answer) == (("f", value),)


@pytest.mark.parametrize(
    ("elements", "schema", "value"),
    [
        ("@<v>1@</v>", {"type": "string"}, "1"),
        ("@<v>1@</v>", {"type": "integer"}, 1),
        ("@<v>1@</v>", {}, 1),
        ("@<v>@</v>", {"type": "string"}, ""),
        ("@<v>@</v>", {"type": "array"}, []),
        ("@<v>\n@</v>", {"type": ["object", "null"]}, {}),
        ("@<v>@</v>", {"type": ["integer", "null"]}, None),
        ("@<v>@</v>", {}, ""),
        ("@<v>@<item>@</item>@</v>", {"items": {"type": ["integer", "null"]}}, [None]),
        ("@<v>@<item>1@</item>@<item>a@</item>@</v>", {}, [1, "a"]),
        ("@<v>@<item>1@</item>@</v>", {"type": "object"}, {"item": 1}),
        ("@<v>@<item>1@</item>@</v>", {"properties": {"item": {"type": "string"}}}, {"item": "1"}),
        ("@<v>@<day>1@</day>@</v>", {"type": "array", "items": {"type": "string"}}, ["1"]),
        ("@<v>@<a>1@</a>@</v>", {"additionalProperties": {"type": "string"}}, {"a": "1"}),
        ("@<v>@<item>1@</item>@<item>1@</item>@</v>",
         {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}},
         ["1", 1]),
        # JSON and marks within a string; white space between elements.
        ('@<v>[1, {"a": null}]@</v>', {"type": "array"}, [1, {"a": None}]),
        ("@<v>@<item>@</b>x@</v>", {"type": "string"}, f"{NS}<item>{NS}</b>x"),
        ("\n @<v>\n @<a>\n1\n@</a>\n @</v>\n", {}, {"a": 1}),
        # A list and an object that are not closed.
        ("@<v>@<a>@<item>1@</item>@</v>", {}, {"a": [1]}),
        ("@<v>@<a>@<item>1@</item>", {}, {"a": [1]}),
        ("@<v>@<a>1@</a>@</b>@</v>", {}, {"a": 1}),
    ],
)  # fmt: skip
def test_what_a_value_is_says_its_schema(elements: str, schema: Any, value: Any) -> None:
    root = {"type": "object", "properties": {"v": schema}}
    assert arguments_of(elements, root) == {"v": value}


def test_required_value_that_is_left_out_is_null() -> None:
    null = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    root = {"properties": {"a": null, "b": null, "c": {}}, "required": ["a", "c"]}
    assert arguments_of("", root) == {"a": None}
    assert arguments_of("@<b>x@</b>", root) == {"b": "x", "a": None}
    assert arguments_of("", None) == {}


def test_argument_may_be_named_as_a_mark_is() -> None:
    for key in ("invoke", "tool_call", "item"):
        assert arguments_of(f"@<{key}>1@</{key}>@<b>@</b>", {}) == {key: 1, "b": ""}


def test_nested_strings_stream_as_they_come() -> None:
    value = {"name": "n", "size": 1, "at": {"name": "abcdefgh", "size": 2, "at": None}}
    text = written(M3, [("f", value)])
    pieces = streamed(events_of(list(text), notation(M3), {"f": SCHEMA}))
    assert [piece for piece in pieces if len(piece) == 1 and piece in "abcdefgh"] == [*"abcdefgh"]
    assert json.loads("".join(pieces)) == value


def test_tag_without_an_end_is_not_waited_for() -> None:
    elements = f"@<a>1@</a>@<{'b' * 2000}@<c>2@</c>"
    assert arguments_of(elements, {}) == {"a": 1, "c": 2}


def test_circular_references_go_as_far_as_the_text() -> None:
    again = {"$ref": "#/$defs/t"}
    inner = {"anyOf": [again, {"properties": {"v": again}}]}
    schema = {"$defs": {"t": inner}, "properties": {"v": again}}
    deep = "@<v>" * 50 + "x" + "@</v>" * 50
    found = arguments_of(deep, schema)
    for _ in range(50):
        found = found["v"]
    assert found == "x"
