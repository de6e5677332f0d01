"""From fields of a request to a Grammar, and the words of every refusal."""

import json
from typing import Any

import msgspec
import pytest

from backend.wire.sampling import Grammar
from gateway.errors import ApiError
from gateway.requests.grammars import grammar_of, validate, validated_grammar
from gateway.sandbox.grammar_validator import (
    GrammarRefused,
    GrammarValidator,
    GrammarVocabulary,
    ValidationQueueFull,
    ValidationUnavailable,
)
from gateway.schema.structured import ResponseFormat, StructuredOutputs

PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def from_format(value: dict[str, Any]) -> Grammar | None:
    return grammar_of(msgspec.convert(value, ResponseFormat), None)


def from_structured(value: dict[str, Any]) -> Grammar | None:
    return grammar_of(None, msgspec.convert(value, StructuredOutputs))


def json_schema(schema: object, **others: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, **others}}


def schema_of(grammar: Grammar | None) -> dict[str, Any]:
    assert grammar is not None and grammar.kind == "json_schema"
    schema: dict[str, Any] = json.loads(grammar.text)
    return schema


def test_without_the_fields_any_text_will_do() -> None:
    assert grammar_of(None, None) is None
    assert from_format({"type": "text"}) is None


@pytest.mark.parametrize("strict", [True, False, None])
def test_json_schema_unless_strict_is_followed_where_possible(
    strict: bool | None,
) -> None:
    schema = schema_of(from_format(json_schema(PERSON, strict=strict)))
    options = schema.pop("x-guidance", {})
    assert schema == PERSON
    assert bool(options.get("lenient")) is not bool(strict)


def test_order_of_properties_is_kept() -> None:
    schema = {"type": "object", "properties": {name: {} for name in ("z", "a", "m")}}
    assert list(schema_of(from_format(json_schema(schema)))["properties"]) == ["z", "a", "m"]


def test_json_object_and_a_schema_left_out_mean_any_object() -> None:
    for grammar in (
        from_format({"type": "json_object"}),
        from_format({"type": "json_schema", "json_schema": {"name": "n", "strict": True}}),
        from_structured({"json_object": True}),
    ):
        assert schema_of(grammar) == {"type": "object"}


def test_options_of_the_library_are_not_the_clients() -> None:
    schema = {**PERSON, "x-guidance": {"whitespace_pattern": ".*"}}
    assert schema_of(from_structured({"json": schema})) == PERSON


@pytest.mark.parametrize("schema", [PERSON, json.dumps(PERSON)])
def test_structured_json_may_be_an_object_or_its_text(schema: object) -> None:
    assert schema_of(from_structured({"json": schema})) == PERSON


def test_other_kinds_pass_as_they_are() -> None:
    assert from_structured({"regex": "a+"}) == Grammar("regex", "a+")
    assert from_structured({"grammar": "start: A"}) == Grammar("lark", "start: A")
    choice = from_structured({"choice": ["é", "no"], "json_object": False})
    assert choice is not None and choice.kind == "choice"
    assert json.loads(choice.text) == ["é", "no"]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("value", "param", "words"),
    [
        (json_schema({"enum": ["x" * 70_000]}), "json_schema.schema", "more than 65536 bytes"),
        (json_schema(nested(65)), "json_schema.schema", "more than 64 deep"),
        (json_schema({"const": "\ud800"}), "json_schema.schema", "surrogate"),
        ({"type": "json_schema"}, "json_schema", "Missing required parameter"),
        ({"type": "text", "json_schema": {"name": "n"}}, "json_schema", "only for the type"),
    ],
)
def test_response_format_that_cannot_be_used(value: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(ApiError, match=words) as caught:
        from_format(value)
    assert caught.value.status == 400
    assert caught.value.param == f"response_format.{param}"


@pytest.mark.parametrize(
    ("value", "param", "words"),
    [
        ({}, "", "exactly one of"),
        ({"json_object": False}, "", "exactly one of"),
        ({"regex": "a", "choice": ["a"]}, "", "exactly one of"),
        ({"json": "{"}, ".json", "not JSON"),
        ({"json": "[]"}, ".json", "not an object"),
        ({"json": "\ud800"}, ".json", "surrogate"),
        ({"json": "[" * 70}, ".json", "more than 64 deep"),
        ({"json": " " * 70_000}, ".json", "more than 65536 bytes"),
        ({"regex": "\ud800"}, ".regex", "surrogate"),
        ({"grammar": "\ud800"}, ".grammar", "surrogate"),
        ({"choice": ["\ud800"]}, ".choice", "surrogate"),
        ({"choice": ["x" * 1000] * 70}, ".choice", "more than 65536 bytes"),
    ],
)
def test_structured_outputs_that_cannot_be_used(
    value: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(ApiError, match=words) as caught:
        from_structured(value)
    assert caught.value.status == 400
    assert caught.value.param == f"structured_outputs{param}"


def test_both_fields_may_not_restrict_an_answer() -> None:
    anything = msgspec.convert({"type": "text"}, ResponseFormat)
    an_object = msgspec.convert({"type": "json_object"}, ResponseFormat)
    structured = StructuredOutputs(regex="a")
    assert grammar_of(anything, structured) == Grammar("regex", "a")
    with pytest.raises(ApiError, match="both") as caught:
        grammar_of(an_object, structured)
    assert caught.value.param == "structured_outputs"


class FixedValidator(GrammarValidator):
    """Says of every grammar what it was made to say."""

    def __init__(self, answer: Grammar | Exception) -> None:
        super().__init__(lambda: GrammarVocabulary([], ()))
        self._answer = answer

    async def validate(self, grammar: Grammar) -> Grammar:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


async def test_what_the_validator_returns_is_submitted() -> None:
    lark = Grammar("lark", "start: A")
    structured = StructuredOutputs(grammar="root ::= A")
    assert (await validated_grammar(None, structured, FixedValidator(lark))) == lark


@pytest.mark.parametrize(
    ("response_format", "structured", "param", "code"),
    [
        (json_schema(PERSON), None, "response_format.json_schema.schema", "invalid_schema"),
        ({"type": "json_object"}, None, "response_format", "invalid_schema"),
        ({"type": "text"}, {"regex": "a"}, "structured_outputs.regex", "invalid_regex"),
        (None, {"grammar": "a"}, "structured_outputs.grammar", "invalid_grammar"),
        (None, {"choice": ["a"]}, "structured_outputs.choice", "invalid_choice"),
    ],
)
async def test_refused_grammar_is_a_400_that_names_its_field(
    response_format: dict[str, Any] | None,
    structured: dict[str, Any] | None,
    param: str,
    code: str,
) -> None:
    async def submitted() -> Grammar | None:
        return await validated_grammar(
            msgspec.convert(response_format, ResponseFormat | None),
            msgspec.convert(structured, StructuredOutputs | None),
            FixedValidator(GrammarRefused("nothing matches it")),
        )

    with pytest.raises(ApiError, match=f"Invalid '{param}': nothing matches it.") as caught:
        await submitted()
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)


@pytest.mark.parametrize(
    ("failure", "status"),
    [(ValidationQueueFull("full"), 429), (ValidationUnavailable("it died"), 503)],
)
async def test_no_verdict_now_is_an_error_that_may_be_tried_again(
    failure: ValidationUnavailable, status: int
) -> None:
    """A helper that died or hung was once reported as too many requests."""
    with pytest.raises(ApiError) as caught:
        await validate(Grammar("regex", "a"), FixedValidator(failure))
    assert caught.value.status == status
    assert ("it died" in caught.value.message) is (status == 503)
    assert "retry-after" in caught.value.headers()
