"""Answers whose calls of tools are held to a grammar, in the notation of the model.

Demanded calls are all of the answer. Calls that the model may make are held where a tool is strict,
where only some tools may be called, and where the answer must match something else if it is no
call. Called once a request.
"""

import msgspec

from backend.wire.sampling import Grammar, SamplingParams
from gateway.errors import invalid
from gateway.notations.grammars import Functions, calls_grammar, held_calls_grammar
from gateway.notations.served import ServedNotation
from gateway.requests.grammars import not_enforced_header, validate
from gateway.requests.text_request import ToolUse
from gateway.requests.tool_schemas import callable_functions
from gateway.sandbox.grammar_validator import GrammarValidator


async def with_held_calls(
    params: SamplingParams,
    tools: ToolUse,
    notation: ServedNotation,
    validator: GrammarValidator | None,
    headers: dict[str, str],
) -> SamplingParams:
    """Return the parameters of an answer that may be calls of tools, or must be.

    params: their grammar is what an answer that is no call must match. headers: of the answer; what
    of the tools' schemas is not enforced is added to them. Raises ApiError.
    """
    body = None if tools.is_required else params.grammar
    if not tools.is_required and body is None and not tools.is_held:
        return params
    if validator is None:
        if not tools.is_required:
            return params
        message = "This server cannot make an answer be a tool call; 'auto' leaves it to the model."
        raise invalid(message, "tool_choice", "unsupported_parameter")
    functions, not_enforced = await callable_functions(tools, validator)
    headers |= not_enforced_header(not_enforced)
    schemas = [(function.name, function.schema) for function in functions]
    grammar = await validate(_grammar(tools, notation, schemas, body), validator, param="tools")
    return msgspec.structs.replace(params, grammar=grammar)


def _grammar(
    tools: ToolUse, notation: ServedNotation, functions: Functions, body: Grammar | None
) -> Grammar:
    allows_parallel = tools.allows_parallel and not tools.name
    if tools.is_required or body is not None:
        return calls_grammar(notation, functions, allows_parallel=allows_parallel, body=body)
    return held_calls_grammar(notation, functions, allows_parallel=allows_parallel)
