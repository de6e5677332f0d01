"""What calls are held to, and what is said of the rest, with a helper process."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from backend.wire.sampling import SamplingParams
from gateway.answers.held_calls import with_held_calls
from gateway.errors import ApiError
from gateway.notations.compiled import compiled
from gateway.notations.library import builtin
from gateway.notations.served import ServedNotation
from gateway.requests.grammars import NOT_ENFORCED_HEADER
from gateway.requests.text_request import ToolUse
from gateway.sandbox.grammar_validator import GrammarValidator, GrammarVocabulary
from gateway.schema.messages import Tool

CODER = ServedNotation(compiled(builtin("qwen3-coder"), None))
GEMMA = ServedNotation(compiled(builtin("gemma4"), None))
AMBIGUOUS = {
    "properties": {"n": {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1}]}}
}
PATH = "properties.n.anyOf[1].minimum"


@pytest.fixture(scope="module")
async def validator() -> AsyncIterator[GrammarValidator]:
    pieces = [b"", *(bytes([byte]) for byte in range(256))]
    validator = GrammarValidator(lambda: GrammarVocabulary(pieces, (0,)))
    yield validator
    await validator.close()


def tool(name: str, parameters: Any, **others: Any) -> Tool:
    function = {"name": name, "parameters": parameters, **others}
    return msgspec.convert({"type": "function", "function": function}, Tool)


async def held(
    validator: GrammarValidator, notation: ServedNotation, **others: Any
) -> tuple[SamplingParams, dict[str, str]]:
    headers: dict[str, str] = {}
    tools = ToolUse(tools=[tool("fine", {}), tool("f", AMBIGUOUS, **others)], is_required=True)
    params = await with_held_calls(SamplingParams(), tools, notation, validator, headers)
    return params, headers


async def test_strict_is_refused_where_the_notation_cannot_carry_it(
    validator: GrammarValidator,
) -> None:
    """A keyword of a strict tool was neither held nor refused where strings stand bare."""
    with pytest.raises(ApiError) as caught:
        await held(validator, CODER, strict=True)
    assert caught.value.status == 400
    assert caught.value.param == f"tools[1].function.parameters.{PATH}"
    assert "of the tool 'f'" in caught.value.message and PATH in caught.value.message
    params, headers = await held(validator, GEMMA, strict=True)
    assert params.grammar is not None and headers == {}


async def test_what_is_not_held_of_others_is_named(validator: GrammarValidator) -> None:
    params, headers = await held(validator, CODER)
    assert params.grammar is not None
    assert f"tools[1].function.parameters.{PATH}" in headers[NOT_ENFORCED_HEADER]


async def test_tools_that_are_too_much_together_are_held_in_part(
    validator: GrammarValidator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each schema compiled, and all of them in the notation were a 400."""
    validate = GrammarValidator.validate

    async def refusing(self: GrammarValidator, grammar: Any) -> Any:
        if "minimum" in grammar.text:
            grammar = msgspec.structs.replace(grammar, text="start: nowhere")
        return await validate(self, grammar)

    monkeypatch.setattr(GrammarValidator, "validate", refusing)
    schema = {"properties": {"n": {"type": "integer", "minimum": 1}}}
    tools = ToolUse(tools=[tool("f", schema)], is_required=True)
    headers: dict[str, str] = {}
    params = await with_held_calls(SamplingParams(), tools, CODER, validator, headers)
    assert params.grammar is not None
    assert headers == {NOT_ENFORCED_HEADER: "tools[0].function.parameters"}
    strict = ToolUse(tools=[tool("f", schema, strict=True)], is_required=True)
    with pytest.raises(ApiError):
        await with_held_calls(SamplingParams(), strict, CODER, validator, {})
