"""What the arguments of tools can be held to, and what of that is not enforced.

Knows no notation of calls: who writes their grammar puts these schemas into it. Called for requests
whose calls are held to one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.errors import invalid
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
        is_strict, place = bool(function.strict), tools.schema_place(number)
        owner = f"of the tool '{function.name}'"
        given = function.parameters or {}
        if not _is_of_objects(given):
            if is_strict:
                message = f"Invalid '{place}' {owner}: type: arguments are an object."
                raise invalid(message, f"{place}.type", "invalid_schema")
            not_enforced.append(f"{place}.type")
        schema, paths = await enforceable_schema(
            {**given, "type": "object"}, validator, is_strict=is_strict, param=place, owner=owner
        )
        functions.append(Function(function.name, {**schema, "type": "object"}, is_strict))
        not_enforced += paths
    return functions, not_enforced


def _is_of_objects(schema: dict[str, Any]) -> bool:
    """Whether its type allows what arguments are."""
    given = schema.get("type", "object")
    return given == "object" or (isinstance(given, list) and "object" in given)
