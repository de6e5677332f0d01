"""What the arguments of tools can be held to, and what of that is not enforced.

Knows no notation of calls: who writes their grammar puts these schemas into it. Called for requests
whose calls are held to one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.requests.grammars import enforceable_schema
from gateway.requests.text_request import ToolUse
from gateway.sandbox.grammar_validator import GrammarValidator


@dataclass(frozen=True, slots=True)
class Function:
    """schema: of its arguments, an object's; fit to stand after %json in a Lark grammar."""

    name: str
    schema: dict[str, Any]
    is_strict: bool = False


async def callable_functions(
    tools: ToolUse, validator: GrammarValidator
) -> tuple[list[Function], Sequence[str]]:
    """Return the functions that may be called, and the paths of what is not enforced of them.

    Raises ApiError; 400 for a strict tool with a keyword that cannot be enforced, naming both.
    """
    functions: list[Function] = []
    not_enforced: list[str] = []
    for number, tool in enumerate(tools.tools):
        function = tool.function
        if not tools.may_call(function.name):
            continue
        is_strict = bool(function.strict)
        schema, paths = await enforceable_schema(
            {"type": "object", **(function.parameters or {})},
            validator,
            is_strict=is_strict,
            param=tools.schema_place(number),
            owner=f"of the tool '{function.name}'",
        )
        functions.append(Function(function.name, {"type": "object", **schema}, is_strict))
        not_enforced += paths
    return functions, not_enforced
