"""What tools can be held to, with a helper process."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.errors import ApiError
from gateway.requests.text_request import ToolUse
from gateway.requests.tool_schemas import callable_functions
from gateway.sandbox.grammar_validator import GrammarValidator, GrammarVocabulary
from gateway.schema.messages import Tool


@pytest.fixture(scope="module")
async def validator() -> AsyncIterator[GrammarValidator]:
    pieces = [b"", *(bytes([byte]) for byte in range(256))]
    validator = GrammarValidator(lambda: GrammarVocabulary(pieces, (0,)))
    yield validator
    await validator.close()


def tool(name: str, parameters: Any, **others: Any) -> Tool:
    function = {"name": name, "parameters": parameters, **others}
    return msgspec.convert({"type": "function", "function": function}, Tool)


TAGS = {"properties": {"tags": {"type": "array", "uniqueItems": True}}}


async def test_only_what_can_be_enforced_is(validator: GrammarValidator) -> None:
    """One keyword in one of all tools was a 400 for the request."""
    tools = [
        tool("none", None),
        tool("lenient", TAGS),
        tool("null", {"type": "object", "properties": None}),
        tool("strict", {"properties": {"a": {"enum": [1]}}}, strict=True),
    ]
    functions, not_enforced = await callable_functions(ToolUse(tools=tools), validator)
    for function in functions:
        assert "whitespace_flexible" in function.schema.pop("x-guidance")
    assert [(function.name, function.schema, function.is_strict) for function in functions] == [
        ("none", {"type": "object"}, False),
        ("lenient", {"type": "object", "properties": {"tags": {"type": "array"}}}, False),
        ("null", {"type": "object"}, False),
        (
            "strict",
            {
                "type": "object",
                "properties": {"a": {"enum": [1]}},
                "additionalProperties": False,
            },
            True,
        ),
    ]
    assert not_enforced == [
        "tools[1].function.parameters.properties.tags.uniqueItems",
        "tools[2].function.parameters.properties",
    ]
    [named], _ = await callable_functions(ToolUse(tools=tools, name="null"), validator)
    assert named.name == "null"


async def test_strict_tool_is_refused_by_name_path_and_keyword(
    validator: GrammarValidator,
) -> None:
    tools = ToolUse(tools=[tool("fine", {}), tool("tagger", TAGS, strict=True)])
    with pytest.raises(ApiError) as caught:
        await callable_functions(tools, validator)
    path = "properties.tags.uniqueItems"
    assert caught.value.status == 400
    assert caught.value.param == f"tools[1].function.parameters.{path}"
    assert "of the tool 'tagger'" in caught.value.message and path in caught.value.message


async def test_arguments_are_an_object_whatever_the_schema_says(
    validator: GrammarValidator,
) -> None:
    """A demanded call had an array for its arguments, which the next request refused."""
    array = {"type": "array", "items": {"type": "integer"}}
    nullable = {"type": ["object", "null"]}
    tools = ToolUse(tools=[tool("array", array), tool("nullable", nullable, strict=True)])
    functions, not_enforced = await callable_functions(tools, validator)
    assert {function.schema["type"] for function in functions} == {"object"}
    assert not_enforced == ["tools[0].function.parameters.type"]
    with pytest.raises(ApiError) as caught:
        await callable_functions(ToolUse(tools=[tool("array", array, strict=True)]), validator)
    assert caught.value.status == 400
    assert caught.value.param == "tools[0].function.parameters.type"


async def test_schema_is_named_as_its_dialect_has_it(validator: GrammarValidator) -> None:
    tools = ToolUse(tools=[tool("f", TAGS)], schema_field="tools[{}].input_schema")
    _, not_enforced = await callable_functions(tools, validator)
    assert not_enforced == ["tools[0].input_schema.properties.tags.uniqueItems"]
