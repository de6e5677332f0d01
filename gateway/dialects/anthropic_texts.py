"""Blocks of Anthropic's that are text, or that text says to a model: what the model reads of each.

What is no text is refused by name. Must not know turns or templates. Called by anthropic_turns.py
and anthropic_deferred.py.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.dialects.told_functions import told
from gateway.errors import ApiError, invalid, missing
from gateway.schema.anthropic import AnthropicTool, Block

# Blocks that say something to Anthropic's servers alone.
UNREAD = ("redacted_thinking", "fallback")
ADDITION, REMOVAL = "tool_addition", "tool_removal"

Tools = Mapping[str, AnthropicTool]  # by name
NO_TOOLS: Tools = MappingProxyType({})


def text_of(block: Block, where: str, tools: Tools) -> str:
    """Return the text of a block. tools: what it may refer to. Raises ApiError if it has none."""
    match block.type:
        case "text":
            if block.text is None:
                raise _missing(f"{where}.text")
            return block.text
        case "document":
            return _in_document(block, _source(block, where))
        case "search_result":
            return _in_document(block, _texts(block.content, f"{where}.content"))
        case "compaction":
            return block.content if isinstance(block.content, str) else ""
        case "tool_addition":
            tool = changed_tool(block, where, tools)
            return told([(tool.name, description_of(tool), tool.input_schema)])
        case "tool_removal":
            tool = changed_tool(block, where, tools)
            return f"The tool {tool.name} cannot be called from here on."
        case _:
            raise _no_text(block.type, where)


def changed_tool(block: Block, where: str, tools: Tools) -> AnthropicTool:
    """Return the tool that is added or removed. Raises ApiError if there is none such."""
    change, name = block.tool, f"{where}.tool"
    if change is None:
        raise _missing(name)
    if change.type == "tool_definition" and block.type == ADDITION:
        if change.definition is None:
            raise _missing(f"{name}.definition")
        return change.definition
    if change.type != "tool_reference":
        message = f"Invalid '{name}': changes of type '{change.type[:40]}' are not to be had here."
        raise invalid(message, "messages", "unsupported_parameter")
    if (tool := tools.get(change.name or "")) is None:
        message = f"Invalid '{name}.name': no tool is named '{(change.name or '')[:128]}'."
        raise invalid(message, "messages")
    return tool


def description_of(tool: AnthropicTool) -> str | None:
    """Return what the model is told of a tool, examples of its arguments included."""
    if not tool.input_examples:
        return tool.description
    examples = "\n".join(_encoded(example) for example in tool.input_examples)
    return f"{tool.description or ''}\n\nExamples of its arguments:\n{examples}".strip()


def joined(texts: Iterable[str]) -> str:
    """Put texts after each other, each on a line of its own."""
    whole = ""
    for text in filter(None, texts):
        whole += text if not whole or whole.endswith("\n") else f"\n{text}"
    return whole


def _source(block: Block, where: str) -> str:
    """Return the text that a document is."""
    source, name = block.source, f"{where}.source"
    if not isinstance(source, dict):
        raise _missing(name)
    kind = str(source.get("type"))
    given = source.get("data" if kind == "text" else "content")
    if kind == "text" and isinstance(given, str):
        return given
    if kind == "content" and isinstance(given, str):
        return given
    if kind == "content" and isinstance(given, list):
        return joined(_part(part, f"{name}.content[{n}]") for n, part in enumerate(given))
    raise _no_text(f"document with a source of type {kind}", where)


def _part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    text = part.get("text") if kind == "text" else None
    if not isinstance(text, str):
        raise _no_text(str(kind), where)
    return text


def _texts(content: str | list[Block] | None, where: str) -> str:
    if isinstance(content, list):
        return joined(text_of(part, f"{where}[{n}]", NO_TOOLS) for n, part in enumerate(content))
    return content or ""


def _in_document(block: Block, text: str) -> str:
    """Return a text with what is said of it, in the tags that Anthropic's guides have for that."""
    named = block.source if isinstance(block.source, str) else None
    said = [f"{block.title} ({named})" if block.title and named else block.title or named]
    lines = [f"<source>{source}</source>" for source in said if source]
    lines += [f"<context>{block.context}</context>"] if block.context else []
    content = f"<document_content>\n{text}\n</document_content>"
    return "\n".join(["<document>", *lines, content, "</document>"])


def _encoded(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _no_text(kind: str, where: str) -> ApiError:
    message = f"Invalid '{where}': this model reads text only, not blocks of type '{kind[:64]}'."
    return invalid(message, where.partition("[")[0], "unsupported_content")


def _missing(where: str) -> ApiError:
    return missing(where, where.partition("[")[0])
