"""The tools of OpenAI's Responses as the functions that a model is told of, and back.

A custom tool takes any text: the model calls it as a function with that text as its only argument.
What is in a namespace is called by both names. A search for tools is a function, too, where the
client searches. Which of them a request has, and when the model learns of them, is in
responses_offered.py.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.errors import invalid, missing
from gateway.schema.messages import FunctionDefinition, Tool
from gateway.schema.responses import ResponsesTool

# The argument that a custom tool's text is.
CUSTOM_INPUT = "input"
SEPARATOR = "__"
# What the model calls to search for tools.
SEARCH = "tool_search"
# Where Codex, which offers it by default, turns it off.
_SWITCHES = {"web_search": ' (Codex: web_search = "disabled" in config.toml)'}
_CUSTOM_SCHEMA = {
    "type": "object",
    "properties": {CUSTOM_INPUT: {"type": "string"}},
    "required": [CUSTOM_INPUT],
    "additionalProperties": False,
}
_SEARCH_SCHEMA = {
    "type": "object",
    "properties": {"query": {"type": "string"}},
    "required": ["query"],
    "additionalProperties": False,
}
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Offer:
    """A function that a tool is, and where the request has it. is_deferred: a search finds it."""

    tool: Tool
    place: str
    is_deferred: bool

    @property
    def name(self) -> str:
        """What the model calls it."""
        return self.tool.function.name


def function_name(name: str, namespace: str | None) -> str:
    """Return what the model calls a function."""
    return f"{namespace}{SEPARATOR}{name}" if namespace else name


def offers_of(tools: Sequence[ResponsesTool], where: str) -> list[Offer]:
    """Return the functions that tools are. Raises ApiError for tools that are not the client's."""
    offers = list(_offers(tools, where, None))
    if len(offers) != len({offer.name for offer in offers}):
        raise invalid(f"Invalid '{where}': two functions have the same name.", where)
    return offers


class CalledTools:
    """Tells what the client calls a function that the model has called."""

    def __init__(self, tools: Sequence[ResponsesTool]) -> None:
        spaces = [space for space in tools if space.type == "namespace"]
        placed = [(tool, space.name) for space in spaces for tool in space.tools or []]
        self._places = {
            function_name(tool.name or "", space): (tool.name or "", space)
            for tool, space in placed
        }
        every = [*((tool, None) for tool in tools), *placed]
        self._custom = {
            function_name(tool.name or "", space) for tool, space in every if tool.type == "custom"
        }
        self._has_search = any(tool.type == SEARCH for tool in tools)

    def is_custom(self, name: str) -> bool:
        """Whether it takes text, not arguments."""
        return name in self._custom

    def is_search(self, name: str) -> bool:
        """Whether it is a search for tools."""
        return self._has_search and name == SEARCH

    def place(self, name: str) -> tuple[str, str | None]:
        """Return its own name, and its namespace if it has one."""
        return self._places.get(name, (name, None))


def custom_input(arguments: str) -> str:
    """Return a custom tool's text; of a call that was cut short, its arguments as they are."""
    called = search_arguments(arguments)
    text = called.get(CUSTOM_INPUT) if isinstance(called, dict) else None
    return text if isinstance(text, str) else arguments


def search_arguments(arguments: str) -> dict[str, Any] | str:
    """Return the object that arguments are; of a call that was cut short, the text of them."""
    try:
        called = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return arguments
    return called if isinstance(called, dict) else arguments


def _offers(tools: Sequence[ResponsesTool], where: str, space: str | None) -> Iterator[Offer]:
    for index, tool in enumerate(tools):
        place = f"{where}[{index}]"
        if tool.type == "namespace" and space is None:
            yield from _offers(_of_namespace(tool), f"{place}.tools", _name(tool, place))
        elif tool.type in ("function", "custom") or (tool.type == SEARCH and space is None):
            _check_caller(tool, place)
            yield Offer(_function(tool, place, space), place, bool(tool.defer_loading))
        else:
            message = (
                f"Invalid '{place}': no tools of type '{tool.type[:40]}' run here. Send functions, "
                f"or turn that tool off in the client{_SWITCHES.get(tool.type, '')}."
            )
            raise invalid(message, place, "unsupported_parameter")


def _of_namespace(space: ResponsesTool) -> list[ResponsesTool]:
    """Return the tools of a namespace; the first says what they are for."""
    tools = list(space.tools or [])
    if tools and space.description:
        words = f"{space.name}: {space.description}\n\n{tools[0].description or ''}"
        tools[0] = msgspec.structs.replace(tools[0], description=words.strip())
    return tools


def _check_caller(tool: ResponsesTool, place: str) -> None:
    """Raise ApiError for what others than the model do or call."""
    if tool.type == SEARCH and tool.execution != "client":
        message = (
            f"Invalid '{place}.execution': no searches for tools are done here. With \"client\", "
            "the client does them."
        )
        raise invalid(message, f"{place}.execution", "unsupported_parameter")
    if tool.allowed_callers is not None and "direct" not in tool.allowed_callers:
        message = (
            f"Invalid '{place}.allowed_callers': no programs run here; only with \"direct\" can "
            "the model call it."
        )
        raise invalid(message, f"{place}.allowed_callers", "unsupported_parameter")


def _function(tool: ResponsesTool, place: str, namespace: str | None) -> Tool:
    name = SEARCH if tool.type == SEARCH else _name(tool, place)
    for part in (name, namespace):
        if part is not None and not _NAME.fullmatch(part):
            message = (
                f"Invalid '{place}.name': a name is 1 to 64 letters, digits, dots, dashes and "
                "underscores, and so is that of its namespace."
            )
            raise invalid(message, f"{place}.name")
    schemas = {"custom": _CUSTOM_SCHEMA, SEARCH: tool.parameters or _SEARCH_SCHEMA}
    definition = FunctionDefinition(
        name=function_name(name, namespace),
        description=_description(tool),
        parameters=schemas.get(tool.type, tool.parameters),
        strict=tool.strict,
    )
    return Tool(function=definition)


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
