"""Tools that are told of when a search finds them, not at the head of the prompt (`defer_loading`).

A result of the client's own search refers to them (`tool_reference`), and in its place the model
reads what they are (told_functions.py). Must not know templates or how calls are written.
"""

from collections.abc import Iterable, Mapping, Sequence

from gateway.dialects.told_functions import told
from gateway.errors import invalid
from gateway.schema.anthropic import AnthropicMessage, AnthropicTool, Block

REFERENCE = "tool_reference"


def referenced_names(messages: Iterable[AnthropicMessage]) -> set[str]:
    """Return the names that results of tools refer to."""
    return {
        part.tool_name
        for message in messages
        for block in _blocks(message.content)
        for part in _blocks(block.content)
        if part.type == REFERENCE and part.tool_name is not None
    }


def told_references(
    references: Sequence[tuple[str, Block]], tools: Mapping[str, AnthropicTool]
) -> str:
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
        functions.append((tool.name, tool.description, tool.input_schema))
    return told(functions)


def _blocks(content: str | list[Block] | None) -> list[Block]:
    return content if isinstance(content, list) else []
