"""Answers whose calls of tools are held to a grammar, in the notation of the model.

Demanded calls are all of the answer. Calls that the model may make are held where a tool is strict,
where only some tools may be called, and where the answer must match something else if it is no
call. Called once a request.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec

from backend.wire.sampling import Grammar, SamplingParams
from gateway.errors import ApiError, invalid
from gateway.notations.grammars import CallsGrammar
from gateway.notations.messages_grammar import messages_grammar
from gateway.notations.served import ServedNotation
from gateway.notations.shortfalls import Shortfall
from gateway.requests.grammars import not_enforced_header, validate
from gateway.requests.text_request import ToolUse
from gateway.requests.tool_schemas import Function, callable_functions
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
    writer = _Writer(tools, notation, body, max_thought_tokens)
    grammar, paths = writer.written(functions)
    try:
        grammar = await validate(grammar, validator, param="tools")
    except ApiError as error:
        # Each schema by itself can be held, in JSON: all of them, as the model writes, cannot.
        grammar, paths = writer.written(_loosened(functions, error))
        grammar = await validate(grammar, validator, param="tools")
        paths += [writer.field(function.name) for function in functions if not function.is_strict]
    headers |= not_enforced_header([*not_enforced, *paths])
    return msgspec.structs.replace(params, grammar=grammar)


async def calls_within_thoughts(
    tools: ToolUse, notation: ServedNotation, validator: GrammarValidator
) -> Grammar | None:
    """Return the grammar of a thought whose calls are held as those behind it are.

    None where nothing marks calls, which are none within a thought then. Raises ApiError.
    """
    forms = notation.form.forms
    if not forms or forms[0].form.is_unmarked:
        return None
    functions, _ = await callable_functions(tools, validator)
    try:
        return await validate(_within(functions, notation), validator, param="tools")
    except ApiError as error:
        loosened = _within(_loosened(functions, error), notation)
        return await validate(loosened, validator, param="tools")


def _within(functions: Sequence[Function], notation: ServedNotation) -> Grammar:
    schemas = [(function.name, function.schema) for function in functions]
    return CallsGrammar(notation, schemas, allows_parallel=True).held()


def _loosened(functions: Sequence[Function], error: ApiError) -> list[Function]:
    """Return functions of which only strict ones have schemas. Raises the error if that is all."""
    if error.status != 400 or all(function.is_strict for function in functions):
        raise error
    return [f if f.is_strict else Function(f.name, {"type": "object"}) for f in functions]


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the grammar of one request. body: of an answer that is no call."""

    tools: ToolUse
    notation: ServedNotation
    body: Grammar | None
    max_thought_tokens: int | None

    def written(self, functions: Sequence[Function]) -> tuple[Grammar, list[str]]:
        """Return the grammar, and the paths of what it does not hold. Raises ApiError."""
        tools, notation = self.tools, self.notation
        schemas = [(function.name, function.schema) for function in functions]
        strict = {function.name for function in functions if function.is_strict}
        if notation.form.messages is not None:
            shortfalls: list[Shortfall] = []
            grammar = messages_grammar(
                notation,
                schemas,
                body=self.body,
                is_required=tools.is_required,
                max_thought_tokens=self.max_thought_tokens,
                shortfalls=shortfalls,
            )
            return grammar, [self._path(each, strict) for each in shortfalls]
        allows_parallel = tools.allows_parallel and not tools.name
        writer = CallsGrammar(notation, schemas, allows_parallel=allows_parallel)
        is_all = tools.is_required or self.body is not None
        grammar = writer.demanded(self.body) if is_all else writer.held()
        return grammar, [self._path(each, strict) for each in writer.shortfalls]

    def field(self, function: str) -> str:
        """Return where the dialect has the schema of a function."""
        numbers = {tool.function.name: number for number, tool in enumerate(self.tools.tools)}
        return self.tools.schema_place(numbers[function])

    def _path(self, shortfall: Shortfall, strict: Collection[str]) -> str:
        """Return the path of what is not held. Raises ApiError if it must be."""
        field = self.field(shortfall.function)
        path = f"{field}.{shortfall.path}"
        if shortfall.function not in strict:
            return path
        message = (
            f"Invalid '{field}' of the tool '{shortfall.function}': {shortfall.path}: "
            f"{shortfall.reason}, as this model writes calls. Without 'strict' the rest is held."
        )
        raise invalid(message, path, "invalid_schema")
