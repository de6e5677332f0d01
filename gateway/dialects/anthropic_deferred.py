"""Tools that are told of when a search finds them, not at the head of the prompt (`defer_loading`).

A result of the client's own search refers to them (`tool_reference`), and in its place the model
reads what they are. So the head of the prompt stays as it was, and what was read of it is read no
second time. Must not know templates or how calls are written.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from gateway.errors import invalid
from gateway.schema.anthropic import AnthropicMessage, AnthropicTool, Block

REFERENCE = "tool_reference"

_encode = msgspec.json.Encoder(order="deterministic").encode


def referenced_names(messages: Iterable[AnthropicMessage]) -> set[str]:
    """Return the names that results of tools refer to."""
    return {
        part.tool_name
        for message in messages
        for block in _blocks(message.content)
        for part in _blocks(block.content)
        if part.type == REFERENCE and part.tool_name is not None
    }


def told(references: Sequence[tuple[str, Block]], tools: Mapping[str, AnthropicTool]) -> str:
    """Return what the model reads where a result refers to tools, as Claude Code describes it.

    references: with the place where each stands. Raises ApiError for one that is no tool.
    """
    lines = []
    for where, block in references:
        tool = tools.get(block.tool_name or "")
        if tool is None:
            name = f"{where}.tool_name"
            message = f"Invalid '{name}': no tool is named '{(block.tool_name or '')[:128]}'."
            raise invalid(message, "messages")
        function = {"name": tool.name, "parameters": tool.input_schema or {}}
        if tool.description:
            function["description"] = tool.description
        lines.append(f"<function>{_encode(function).decode()}</function>")
    return "\n".join(["<functions>", *lines, "</functions>"])


def _blocks(content: str | list[Block] | None) -> list[Block]:
    return content if isinstance(content, list) else []
