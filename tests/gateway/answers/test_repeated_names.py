"""An answer whose JSON has a name twice is never handed out where that could break its schema."""

import json
from typing import Any

import pytest

from backend.wire.sampling import Grammar
from gateway.answers.repeated_names import RepeatedName, check_names, guarded_names


def names(schema: dict[str, Any]) -> frozenset[str]:
    return guarded_names(Grammar("json_schema", json.dumps(schema)))


OPEN = {"type": "object", "properties": {"age": {"type": "integer"}}}


def test_names_of_open_objects_are_guarded() -> None:
    assert names(OPEN) == {"age"}
    assert names({**OPEN, "additionalProperties": False}) == frozenset()
    assert names({"type": "object"}) == frozenset()
    assert guarded_names(None) == guarded_names(Grammar("regex", "a")) == frozenset()


@pytest.mark.parametrize(
    "text", ['{"age":1,"age":2}', '{"age":1,"\\u0061ge":2}', '[{"x":{"age":1,"b":0,"age":1}}]']
)
def test_guarded_name_may_not_come_twice(text: str) -> None:
    with pytest.raises(RepeatedName, match='an object has "age" twice'):
        check_names(text, frozenset(["age"]))


@pytest.mark.parametrize(
    "text", ['{"age":1,"x":{"age":2}}', '{"b":1,"b":2}', '{"age":1,"age":', "", "3", "[" * 5000]
)
def test_other_repetitions_and_what_was_cut_off_pass(text: str) -> None:
    check_names(text, frozenset(["age"]))


def test_where_members_are_counted_no_name_may_come_twice() -> None:
    counted = names({"type": "object", "minProperties": 2})
    with pytest.raises(RepeatedName):
        check_names('{"b":1,"b":2}', counted)


def test_what_a_server_error_says_of_a_name_is_short() -> None:
    name = "n" * 10_000
    with pytest.raises(RepeatedName) as caught:
        check_names(json.dumps({name: 1})[:-1] + f',"{name}":1}}', frozenset([name]))
    assert len(str(caught.value)) < 150
