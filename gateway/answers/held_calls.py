"""Answers whose calls of tools are held to a grammar, in the notation of the model.

Demanded calls are all of the answer. Calls that the model may make are held where a tool is strict,
where only some tools may be called, and where the answer must match something else if it is no
call. Called once a request.
"""

import msgspec

from backend.wire.sampling import Grammar, SamplingParams
from gateway.errors import invalid
from gateway.notations.grammars import Functions, calls_grammar, held_calls_grammar
from gateway.notations.messages_grammar import messages_grammar
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
    max_thought_tokens: int | None = None,
) -> SamplingParams:
    """Return the parameters of an answer that may be calls of tools, or must be.

    params: their grammar is what an answer that is no call must match. headers: of the answer; what
    of the tools' schemas is not enforced is added to them. max_thought_tokens: held here where an
    answer is written in messages, of which a thought is one. Raises ApiError.
    """
    body = None if tools.is_required else params.grammar
    limits_thoughts = notation.form.messages is not None and max_thought_tokens is not None
    if not (tools.is_required or body is not None or tools.is_held or limits_thoughts):
        return params
    if validator is None:
        if not tools.is_required:
            return params
        message = "This server cannot make an answer be a tool call; 'auto' leaves it to the model."
        raise invalid(message, "tool_choice", "unsupported_parameter")
    functions, not_enforced = await callable_functions(tools, validator)
    headers |= not_enforced_header(not_enforced)
    schemas = [(function.name, function.schema) for function in functions]
    grammar = _grammar(tools, notation, schemas, body, max_thought_tokens)
    grammar = await validate(grammar, validator, param="tools")
    return msgspec.structs.replace(params, grammar=grammar)


def _grammar(
    tools: ToolUse,
    notation: ServedNotation,
    functions: Functions,
    body: Grammar | None,
    max_thought_tokens: int | None,
) -> Grammar:
    if notation.form.messages is not None:
        return messages_grammar(
            notation,
            functions,
            body=body,
            is_required=tools.is_required,
            max_thought_tokens=max_thought_tokens,
        )
    allows_parallel = tools.allows_parallel and not tools.name
    if tools.is_required or body is not None:
        return calls_grammar(notation, functions, allows_parallel=allows_parallel, body=body)
    return held_calls_grammar(notation, functions, allows_parallel=allows_parallel)
