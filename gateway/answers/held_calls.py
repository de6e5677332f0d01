"""Answers that must be calls of tools: the grammar that holds the model to them."""

import msgspec

from backend.wire.sampling import Grammar, SamplingParams
from gateway.answers.tools import calls_grammar
from gateway.errors import invalid
from gateway.requests.grammars import validate
from gateway.requests.text_request import ToolUse
from gateway.sandbox.grammar_validator import GrammarValidator


async def calling(
    params: SamplingParams, tools: ToolUse, validator: GrammarValidator | None
) -> SamplingParams:
    """Return the parameters of an answer that must be a tool call."""
    functions = [
        (tool.function.name, tool.function.parameters or {"type": "object"})
        for tool in tools.tools
        if tools.name in ("", tool.function.name)
    ]
    is_single = bool(tools.name) or not tools.allows_parallel
    grammar = Grammar("lark", calls_grammar(functions, allows_parallel=not is_single))
    if validator is None:
        message = "This server cannot make an answer be a tool call; 'auto' leaves it to the model."
        raise invalid(message, "tool_choice", "unsupported_parameter")
    grammar = await validate(grammar, validator, param="tools")
    return msgspec.structs.replace(params, grammar=grammar)
