"""From fields of a request to a Grammar, and the words of every refusal."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from backend.wire.sampling import Grammar
from gateway.errors import ApiError
from gateway.requests.grammars import (
    enforceable_schema,
    grammar_of,
    not_enforced_header,
    validate,
    validated_grammar,
)
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

    def __init__(self, answer: Grammar | Exception, not_enforced: Sequence[str] = ()) -> None:
        super().__init__(lambda: GrammarVocabulary([], ()))
        self._answer = answer
        self._not_enforced = not_enforced

    async def validate_schema(self, grammar: Grammar) -> tuple[Grammar, Sequence[str]]:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer, self._not_enforced


async def test_what_the_validator_returns_is_submitted() -> None:
    lark = Grammar("lark", "start: A")
    structured = StructuredOutputs(grammar="root ::= A")
    assert (await validated_grammar(None, structured, FixedValidator(lark))) == (lark, ())


@pytest.mark.parametrize(
    ("response_format", "structured", "param", "code"),
    [
        (
            json_schema(PERSON, strict=True),
            None,
            "response_format.json_schema.schema",
            "invalid_schema",
        ),
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
        grammar, _ = await validated_grammar(
            msgspec.convert(response_format, ResponseFormat | None),
            msgspec.convert(structured, StructuredOutputs | None),
            FixedValidator(GrammarRefused("nothing matches it")),
        )
        return grammar

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


SCHEMA_FIELD = "response_format.json_schema.schema"


async def enforced(validator: GrammarValidator, **fields: Any) -> tuple[Grammar | None, Any]:
    response_format = msgspec.convert(json_schema(PERSON, **fields), ResponseFormat)
    return await validated_grammar(response_format, None, validator)


async def test_what_is_not_enforced_is_named_by_its_path_in_the_request() -> None:
    grammar = Grammar("json_schema", "{}")
    found = await enforced(FixedValidator(grammar, ["properties.a.uniqueItems"]))
    assert found == (grammar, [f"{SCHEMA_FIELD}.properties.a.uniqueItems"])


async def test_strict_refusal_names_the_keyword() -> None:
    refusal = GrammarRefused("properties.a.not: it cannot be enforced", "properties.a.not")
    with pytest.raises(ApiError, match="not: it cannot be enforced") as caught:
        await enforced(FixedValidator(refusal), strict=True)
    assert caught.value.param == f"{SCHEMA_FIELD}.properties.a.not"


async def test_schema_that_is_not_strict_is_never_refused() -> None:
    """One keyword that the library does not know was a 400."""
    grammar, not_enforced = await enforced(FixedValidator(GrammarRefused("it is too complex")))
    assert schema_of(grammar) == {"type": "object"}
    assert not_enforced == [SCHEMA_FIELD]
    with pytest.raises(ApiError, match="it died"):
        await enforced(FixedValidator(ValidationUnavailable("it died")))


async def test_schema_for_a_larger_grammar_is_what_can_be_enforced() -> None:
    prepared = Grammar("json_schema", '{"type":"object"}')
    validator = FixedValidator(prepared, ["not"])
    param = "tools[1].function.parameters"
    found = await enforceable_schema({"not": {}}, validator, is_strict=False, param=param)
    assert found == ({"type": "object"}, [f"{param}.not"])


def test_header_of_paths_is_bounded_and_plain() -> None:
    assert not_enforced_header(()) == {}
    [(name, value)] = not_enforced_header(["tools[0].a\r\nx: é", "b." * 99 + "end"]).items()
    assert name == "x-unisono-not-enforced"
    first, second = value.split(", ")
    assert first == "tools[0].a__x___"
    assert second.startswith("...") and second.endswith(".b.end") and len(second) == 96


@pytest.mark.parametrize("member", [{"json": PERSON}, {"json_object": True}])
def test_free_white_space_is_asked_for(member: dict[str, Any]) -> None:
    assert "x-guidance" not in schema_of(from_structured(member))
    schema = schema_of(from_structured({**member, "any_whitespace": True}))
    assert schema["x-guidance"] == {"any_whitespace": True}


def test_free_white_space_may_be_asked_for_beside_a_response_format() -> None:
    structured = StructuredOutputs(any_whitespace=True)
    for value in (json_schema(PERSON, strict=True), {"type": "json_object"}):
        grammar = grammar_of(msgspec.convert(value, ResponseFormat), structured)
        assert schema_of(grammar)["x-guidance"] == {"any_whitespace": True}
    with pytest.raises(ApiError, match="exactly one of"):
        grammar_of(None, structured)
