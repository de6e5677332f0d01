"""vLLM's older names mean what the newer ones mean."""

from typing import Any

import msgspec
import pytest

from gateway.errors import ApiError
from gateway.requests.grammars import grammar_of
from gateway.schema.chat import ChatRequest
from gateway.schema.completions import CompletionRequest
from gateway.schema.sampling import SamplingFields

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
CASES = [
    ("json", SCHEMA),
    ("json", msgspec.json.encode(SCHEMA).decode()),
    ("regex", "a+"),
    ("choice", ["yes", "no"]),
    ("grammar", "start: 'a'"),
]


def request(kind: type[SamplingFields], **fields: Any) -> SamplingFields:
    prompt = {"prompt": "x"} if kind is CompletionRequest else {"messages": [{"role": "user"}]}
    return msgspec.json.decode(msgspec.json.encode({"model": "m", **prompt, **fields}), type=kind)


@pytest.mark.parametrize("kind", [CompletionRequest, ChatRequest])
@pytest.mark.parametrize(("name", "value"), CASES)
def test_older_name_is_an_alias(kind: type[SamplingFields], name: str, value: Any) -> None:
    older = request(kind, **{f"guided_{name}": value})
    newer = request(kind, structured_outputs={name: value})
    assert older.structured_outputs == newer.structured_outputs is not None
    assert grammar_of(None, older.structured_outputs) is not None
    older.check_guided()
    assert msgspec.structs.replace(older, n=2).structured_outputs == newer.structured_outputs


def test_null_is_none() -> None:
    assert request(CompletionRequest, guided_json=None).structured_outputs is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_json": SCHEMA, "guided_regex": "a"}, "guided_regex"),
        ({"guided_json": SCHEMA, "structured_outputs": {"regex": "a"}}, "guided_json"),
        ({"guided_choice": ["a"], "structured_outputs": {"choice": ["b"]}}, "guided_choice"),
    ],
)
def test_two_constraints_are_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as raised:
        request(CompletionRequest, **fields).check(is_strict=False)
    assert raised.value.param == param


@pytest.mark.parametrize(("name", "value"), [("choice", []), ("regex", ""), ("json", 1)])
def test_bounds_are_those_of_the_newer_name(name: str, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=rf"\$\.guided_{name}"):
        request(CompletionRequest, **{f"guided_{name}": value})
