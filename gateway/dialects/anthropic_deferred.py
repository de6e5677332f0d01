"""Tools that the model learns of in the conversation, not at the head of the prompt.

A result of the client's own search refers to deferred ones (`tool_reference`, `defer_loading`), and
messages of the system add and remove some. In their place the model reads what they are
(told_functions.py). Must not know templates or how calls are written.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.dialects.anthropic_texts import (
    ADDITION,
    REMOVAL,
    Tools,
    changed_tool,
    description_of,
)
from gateway.dialects.told_functions import told
from gateway.errors import invalid
from gateway.schema.anthropic import AnthropicTool, Block, CountTokensRequest

REFERENCE = "tool_reference"


@dataclass(slots=True)
class KnownTools:
    """The tools of a request.

    tools: all of them, by name. places: where each is defined. untold: those that the head of the
    prompt does not show. unknown: those that nothing has told of yet. removed: those that may not
    be called any more.
    """

    tools: dict[str, AnthropicTool]
    places: dict[str, str]
    untold: set[str]
    unknown: set[str]
    removed: set[str]


def known_tools(request: CountTokensRequest) -> KnownTools:
    """Return the tools of a request after its last message. Raises ApiError."""
    given = request.tools or []
    tools = {tool.name: tool for tool in given}
    places = {tool.name: f"tools[{number}]" for number, tool in enumerate(given)}
    deferred = {tool.name for tool in given if tool.defer_loading}
    known = KnownTools(tools, places, set(deferred), set(deferred), set())
    for number, message in enumerate(request.messages):
        for index, block in enumerate(_blocks(message.content)):
            _learn(known, block, f"messages[{number}].content[{index}]")
    return known


def told_references(references: Sequence[tuple[str, Block]], tools: Tools) -> str:
    """Return what the model reads where a result refers to tools.

    references: with the place where each stands. Raises ApiError for one that is no tool.
    """
    functions = []
    for where, block in references:
        tool = tools.get(block.tool_name or "")
        if tool is None:
            name = f"{where}.tool_name"
            message = f"Invalid '{name}': no tool is named '{(block.tool_name or '')[:128]}'."
            raise invalid(message, "messages")
        functions.append((tool.name, description_of(tool), tool.input_schema))
    return told(functions)


def _learn(known: KnownTools, block: Block, where: str) -> None:
    if block.type == ADDITION:
        tool = changed_tool(block, where, known.tools)
        if tool.name not in known.tools:
            known.untold.add(tool.name)
        if known.tools.get(tool.name) is not tool:
            known.tools[tool.name] = tool
            known.places[tool.name] = f"{where}.tool.definition"
        known.unknown.discard(tool.name)
        known.removed.discard(tool.name)
    elif block.type == REMOVAL:
        known.removed.add(changed_tool(block, where, known.tools).name)
    else:
        for part in _blocks(block.content):
            if part.type == REFERENCE:
                known.unknown.discard(part.tool_name or "")


def _blocks(content: str | list[Block] | None) -> list[Block]:
    return content if isinstance(content, list) else []
