"""Anthropic's turns and blocks become the messages of a chat, in the order they came in.

A tool's results, which Anthropic has in the user's turn, become messages of their own; thoughts
and calls go into the assistant's message. What the system says between turns, as Claude Code does,
becomes part of the user's: many templates take a system message only in front. What is no text is
refused by name. The result of a turn depends on that turn alone, so that a longer conversation
begins as the shorter one did.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import msgspec

from gateway.dialects.anthropic_deferred import REFERENCE, told_references
from gateway.errors import ApiError, invalid, missing
from gateway.schema.anthropic import AnthropicMessage, AnthropicTool, Block
from gateway.schema.messages import ChatMessage, PastFunctionCall, PastToolCall

# Claude Code puts this line in front of its system prompt, with a checksum that is another in each
# turn. It is for a bill; in the prompt it would leave nothing of it to the prefix cache.
_BILLING_LINE = re.compile(r"^x-anthropic-billing-header:[^\n]*(?:\n|\Z)", re.MULTILINE)

# The tag in which Claude Code writes to models that know no system messages between turns; its
# system prompt explains it.
_LATE_SYSTEM = "<system-reminder>\n{}\n</system-reminder>\n"

_Blocks = list[tuple[str, Block]]  # where each stands, as refusals name it
_Tools = Mapping[str, AnthropicTool]  # by name


def system_message(
    system: str | list[Block] | None, messages: Sequence[AnthropicMessage]
) -> ChatMessage | None:
    """Return the message that tells the model who it is; None if nothing is to be told.

    Messages of the system before all turns belong to it.
    """
    blocks = _blocks(system, "system") if system is not None else []
    for number, message in enumerate(messages[: _num_leading(messages)]):
        blocks += _blocks(message.content, f"messages[{number}].content")
    texts = [_BILLING_LINE.sub("", _text(block, where)) for where, block in blocks]
    text = _joined(texts)
    return ChatMessage(role="system", content=text) if text else None


def turn_messages(
    messages: Sequence[AnthropicMessage], tools: Sequence[AnthropicTool] = ()
) -> list[ChatMessage]:
    """Return the messages of all turns; neighbours of one role are one turn.

    tools: what results may refer to.
    """
    named = {tool.name: tool for tool in tools}
    all_turns: list[ChatMessage] = []
    turns = [*enumerate(messages)][_num_leading(messages) :]
    for is_assistant, group in groupby(turns, key=lambda turn: turn[1].role == "assistant"):
        blocks: _Blocks = []
        for number, message in group:
            own = _blocks(message.content, f"messages[{number}].content")
            blocks += map(_late_system, own) if message.role == "system" else own
        all_turns += [_of_assistant(blocks)] if is_assistant else _of_user(blocks, named)
    return all_turns


def _num_leading(messages: Sequence[AnthropicMessage]) -> int:
    """Count the messages of the system before the first turn."""
    roles = (number for number, message in enumerate(messages) if message.role != "system")
    return next(roles, len(messages))


def _late_system(placed: tuple[str, Block]) -> tuple[str, Block]:
    where, block = placed
    return where, Block(type="text", text=_LATE_SYSTEM.format(_text(block, where).strip()))


def _of_user(blocks: _Blocks, tools: _Tools) -> Iterable[ChatMessage]:
    """Yield the results of tools and what lies between them."""
    for is_result, group in groupby(blocks, key=lambda each: each[1].type == "tool_result"):
        if is_result:
            for where, block in group:
                yield _of_tool(where, block, tools)
        else:
            text = _joined([_text(block, where) for where, block in group])
            yield ChatMessage(role="user", content=text)
    if not blocks:
        yield ChatMessage(role="user", content="")


def _of_tool(where: str, block: Block, tools: _Tools) -> ChatMessage:
    if block.tool_use_id is None:
        raise _missing(f"{where}.tool_use_id")
    inner = _blocks(block.content, f"{where}.content") if block.content is not None else []
    text = _joined(_result_texts(inner, tools))
    if block.is_error and "error" not in text[:64].lower():
        text = f"Error: {text}"  # templates have no other place for it
    return ChatMessage(role="tool", content=text, tool_call_id=block.tool_use_id)


def _result_texts(blocks: _Blocks, tools: _Tools) -> Iterable[str]:
    """Yield what a result says; tools that follow each other are told of at once."""
    for is_reference, group in groupby(blocks, key=lambda each: each[1].type == REFERENCE):
        if is_reference:
            yield told_references(list(group), tools)
        else:
            yield from (_text(part, at) for at, part in group)


@dataclass(slots=True)
class _AssistantTurn:
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[PastToolCall] = field(default_factory=list)


def _of_assistant(blocks: _Blocks) -> ChatMessage:
    turn = _AssistantTurn()
    for where, block in blocks:
        match block.type:
            case "thinking":
                turn.thoughts.append(block.thinking or "")
            case "redacted_thinking":
                pass  # nobody but its author can read it
            case "tool_use":
                turn.calls.append(_call(where, block))
            case _:
                turn.texts.append(_text(block, where))
    text = "".join(turn.texts)
    return ChatMessage(
        role="assistant",
        content=None if turn.calls and not text else text,
        reasoning_content="".join(turn.thoughts) or None,
        tool_calls=turn.calls or None,
    )


def _call(where: str, block: Block) -> PastToolCall:
    if block.id is None or block.name is None:
        raise _missing(f"{where}.{'id' if block.id is None else 'name'}")
    arguments = msgspec.json.encode(block.input or {}).decode()
    function = PastFunctionCall(name=block.name, arguments=arguments)
    return PastToolCall(id=block.id, function=function)


def _blocks(content: str | list[Block], where: str) -> _Blocks:
    if isinstance(content, str):
        return [(where, Block(type="text", text=content))]
    return [(f"{where}[{number}]", block) for number, block in enumerate(content)]


def _text(block: Block, where: str) -> str:
    """Return the text of a block. Raises ApiError for a block that is none."""
    if block.type != "text":
        raise invalid(
            f"Invalid '{where}': this model reads text only, not blocks of type "
            f"'{block.type[:40]}'.",
            where.partition("[")[0],
            "unsupported_content",
        )
    if block.text is None:
        raise _missing(f"{where}.text")
    return block.text


def _joined(texts: Iterable[str]) -> str:
    """Put blocks after each other, each on a line of its own."""
    joined = ""
    for text in filter(None, texts):
        joined += text if not joined or joined.endswith("\n") else f"\n{text}"
    return joined


def _missing(where: str) -> ApiError:
    return missing(where, where.partition("[")[0])
