"""The tools of OpenAI's Responses as the functions that a model is told of, and back.

A custom tool takes any text: the model calls it as a function with that text as its only argument.
A namespace's functions are called by both names.
"""

from collections.abc import Iterator, Sequence

import msgspec

from gateway.errors import invalid, missing
from gateway.schema.messages import FunctionDefinition, Tool
from gateway.schema.responses import ResponsesTool

# The argument that a custom tool's text is.
CUSTOM_INPUT = "input"
SEPARATOR = "__"
# Where Codex, which offers them by default, turns tools off.
_SWITCHES = {
    "web_search": ' (Codex: web_search = "disabled" in config.toml)',
    "tool_search": ' (Codex: "supports_search_tool": false in its model catalog)',
}
_CUSTOM_SCHEMA = {
    "type": "object",
    "properties": {CUSTOM_INPUT: {"type": "string"}},
    "required": [CUSTOM_INPUT],
    "additionalProperties": False,
}


def function_name(name: str, namespace: str | None) -> str:
    """Return what the model calls a function."""
    return f"{namespace}{SEPARATOR}{name}" if namespace else name


def functions_of(tools: Sequence[ResponsesTool]) -> list[Tool]:
    """Return the functions that tools are. Raises ApiError for tools that are not the client's."""
    functions = list(_functions(tools, "tools", None))
    names = [tool.function.name for tool in functions]
    if len(names) != len(set(names)):
        raise invalid("Invalid 'tools': two functions have the same name.", "tools")
    return functions


class CalledTools:
    """Tells what the client calls a function that the model has called."""

    def __init__(self, tools: Sequence[ResponsesTool]) -> None:
        self._custom = {tool.name for tool in tools if tool.type == "custom"}
        self._places = {
            function_name(tool.name or "", space.name): (tool.name or "", space.name)
            for space in tools
            if space.type == "namespace"
            for tool in space.tools or []
        }

    def is_custom(self, name: str) -> bool:
        """Whether it takes text, not arguments."""
        return name in self._custom

    def place(self, name: str) -> tuple[str, str | None]:
        """Return its own name, and its namespace if it has one."""
        return self._places.get(name, (name, None))


def custom_input(arguments: str) -> str:
    """Return a custom tool's text; of a call that was cut short, its arguments as they are."""
    try:
        called = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return arguments
    text = called.get(CUSTOM_INPUT) if isinstance(called, dict) else None
    return text if isinstance(text, str) else arguments


def _functions(tools: Sequence[ResponsesTool], where: str, namespace: str | None) -> Iterator[Tool]:
    for index, tool in enumerate(tools):
        place = f"{where}[{index}]"
        if tool.type == "namespace" and namespace is None:
            yield from _functions(tool.tools or [], f"{place}.tools", _name(tool, place))
        elif tool.type in ("function", "custom"):
            yield _function(tool, place, namespace)
        else:
            message = (
                f"Invalid '{place}': no tools of type '{tool.type[:40]}' run here. Send functions, "
                f"or turn that tool off in the client{_SWITCHES.get(tool.type, '')}."
            )
            raise invalid(message, place, "unsupported_parameter")


def _function(tool: ResponsesTool, place: str, namespace: str | None) -> Tool:
    is_custom = tool.type == "custom"
    definition = {
        "name": function_name(_name(tool, place), namespace),
        "description": _description(tool),
        "parameters": _CUSTOM_SCHEMA if is_custom else tool.parameters,
        "strict": tool.strict,
    }
    try:
        return Tool(function=msgspec.convert(definition, FunctionDefinition))
    except msgspec.ValidationError:
        message = (
            f"Invalid '{place}.name': a name is 1 to 64 letters, digits, dots, dashes and "
            "underscores, its namespace and two underscores included."
        )
        raise invalid(message, f"{place}.name") from None


def _description(tool: ResponsesTool) -> str | None:
    """Return what the model is told of a tool: of the grammar of its text, too."""
    grammar = (tool.format or {}).get("definition")
    if not isinstance(grammar, str):
        return tool.description
    syntax = (tool.format or {}).get("syntax", "")
    return (
        f"{tool.description or ''}\n\nThe input follows this {syntax} grammar:\n{grammar}".strip()
    )


def _name(tool: ResponsesTool, place: str) -> str:
    if tool.name is None:
        raise missing(f"{place}.name")
    return tool.name
