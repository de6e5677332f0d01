"""What a bare text is, by the schema of its parameter."""

import json
from typing import Any

import pytest

from gateway.notations.schema_types import ParameterTypes, value_of

SCHEMA = {
    "$defs": {"Unit": {"enum": ["C", "F"]}, "Loop": {"$ref": "#/$defs/Loop"}},
    "properties": {
        "text": {"type": "string"},
        "unit": {"$ref": "#/$defs/Unit"},
        "loop": {"$ref": "#/$defs/Loop"},
        "lost": {"$ref": "#/nowhere"},
        "maybe": {"type": ["string", "null"]},
        "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "nullable": {"type": "integer", "nullable": True},
        "constant": {"const": 3},
        "both": {"allOf": [{"type": ["integer", "string"]}, {"enum": ["a"]}]},
        "free": {},
    },
}
ALL = {"string", "number", "integer", "boolean", "null", "array", "object"}


@pytest.mark.parametrize(
    ("key", "types"),
    [
        ("text", {"string"}), ("unit", {"string"}), ("maybe", {"string", "null"}),
        ("either", {"integer", "null"}), ("nullable", {"integer", "null"}),
        ("constant", {"integer", "number"}), ("both", {"string"}), ("loop", ALL), ("lost", ALL),
        ("free", ALL), ("unknown", ALL),
    ],
)  # fmt: skip
def test_schemas_say_which_types_there_may_be(key: str, types: set[str]) -> None:
    assert ParameterTypes(SCHEMA).of(key) == types


def test_unknown_tool_may_have_anything() -> None:
    assert ParameterTypes(None).of("x") == ALL


@pytest.mark.parametrize(
    ("text", "types", "value"),
    [
        ("12", ALL, 12), ("12", {"string"}, "12"), ("12", {"string", "null"}, "12"),
        ("null", {"string", "null"}, None), ("None", {"integer", "null"}, None),
        ("True", {"boolean"}, True), ("True", {"string"}, "True"), ("3.0", {"integer"}, 3),
        ("3.5", {"number"}, 3.5), ("[1, 2]", {"array"}, [1, 2]), ("[1, 2]", {"object"}, "[1, 2]"),
        (' {"a": 1}\n', {"object"}, {"a": 1}), ("a b", {"integer"}, "a b"), ("", ALL, ""),
        ("01234", ALL, "01234"), ("Infinity", {"number"}, "Infinity"),
        ("2.5", {"integer", "string"}, "2.5"), ("2.5", {"integer"}, 2.5), ("9" * 400, {"number"},
        int("9" * 400)), ("{'a': [True]}", {"object"}, {"a": [True]}), ("{'a'", {"object"}, "{'a'"),
        ("[NaN]", {"array"}, "[NaN]"), ("{1}", {"object"}, "{1}"), ("[" * 9000, {"array"},
        "[" * 9000), ("{'a': b'x'}", {"object"}, "{'a': b'x'}"),
    ],
)  # fmt: skip
def test_bare_text_is_what_its_types_allow(text: str, types: set[str], value: Any) -> None:
    assert json.loads(value_of(text, frozenset(types))) == value
