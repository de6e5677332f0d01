"""Answers that must be calls of tools: the grammar that holds the model to them."""

import msgspec

from backend.wire.sampling import Grammar, SamplingParams
from gateway.answers.tools import calls_grammar
from gateway.errors import invalid
from gateway.requests.grammars import not_enforced_header, validate
from gateway.requests.text_request import ToolUse
from gateway.requests.tool_schemas import callable_functions
from gateway.sandbox.grammar_validator import GrammarValidator


async def calling(
    params: SamplingParams,
    tools: ToolUse,
    validator: GrammarValidator | None,
    headers: dict[str, str],
) -> SamplingParams:
    """Return the parameters of an answer that must be a tool call.

    headers: of the answer; what of the tools' schemas is not enforced is added to them.
    """
    if validator is None:
        message = "This server cannot make an answer be a tool call; 'auto' leaves it to the model."
        raise invalid(message, "tool_choice", "unsupported_parameter")
    functions, not_enforced = await callable_functions(tools, validator)
    headers |= not_enforced_header(not_enforced)
    is_single = bool(tools.name) or not tools.allows_parallel
    schemas = [(function.name, function.schema) for function in functions]
    grammar = Grammar("lark", calls_grammar(schemas, allows_parallel=not is_single))
    grammar = await validate(grammar, validator, param="tools")
    return msgspec.structs.replace(params, grammar=grammar)
