"""Anthropic's turns and blocks become the messages of a chat, in the order they came in.

A tool's results, which Anthropic has in the user's turn, become messages of their own; thoughts
and calls go into the assistant's message. What the system says between turns, as Claude Code does,
becomes part of the user's: many templates take a system message only in front. What blocks say is
in anthropic_texts.py. The result of a turn depends on that turn alone, so that a longer
conversation begins as the shorter one did, but for what the system wants forgotten (`clear_at`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import msgspec

from gateway.dialects.anthropic_deferred import REFERENCE, told_references
from gateway.dialects.anthropic_texts import NO_TOOLS, UNREAD, Tools, joined, text_of
from gateway.errors import ApiError, missing
from gateway.schema.anthropic import AnthropicMessage, Block
from gateway.schema.messages import ChatMessage, PastFunctionCall, PastToolCall

# Claude Code puts this line in front of its system prompt, with a checksum that is another in each
# turn. It is for a bill; in the prompt it would leave nothing of it to the prefix cache.
_BILLING_LINE = re.compile(r"^x-anthropic-billing-header:[^\n]*(?:\n|\Z)", re.MULTILINE)

# The tag in which Claude Code writes to models that know no system messages between turns; its
# system prompt explains it.
_LATE_SYSTEM = "<system-reminder>\n{}\n</system-reminder>\n"

_Blocks = list[tuple[str, Block]]  # where each stands, as refusals name it


def system_message(
    system: str | list[Block] | None, messages: Sequence[AnthropicMessage], tools: Tools = NO_TOOLS
) -> ChatMessage | None:
    """Return the message that tells the model who it is; None if nothing is to be told.

    Messages of the system before all turns belong to it. tools: what they may add or remove.
    """
    blocks = _blocks(system, "system")
    for number, message in _shown(messages):
        if number < _num_leading(messages):
            blocks += _blocks(message.content, f"messages[{number}].content")
    texts = [_BILLING_LINE.sub("", text_of(block, where, tools)) for where, block in blocks]
    text = joined(texts)
    return ChatMessage(role="system", content=text) if text else None


def turn_messages(
    messages: Sequence[AnthropicMessage], tools: Tools = NO_TOOLS
) -> list[ChatMessage]:
    """Return the messages of all turns; neighbours of one role are one turn.

    tools: what results may refer to, and the system add or remove.
    """
    all_turns: list[ChatMessage] = []
    num_leading = _num_leading(messages)
    turns = [turn for turn in _shown(messages) if turn[0] >= num_leading]
    for is_assistant, group in groupby(turns, key=lambda turn: turn[1].role == "assistant"):
        blocks: _Blocks = []
        for number, message in group:
            own = _blocks(message.content, f"messages[{number}].content")
            if message.role == "system":
                own = [_late_system(where, block, tools) for where, block in own]
            blocks += own
        all_turns += [_of_assistant(blocks, tools)] if is_assistant else _of_user(blocks, tools)
    return all_turns


def _num_leading(messages: Sequence[AnthropicMessage]) -> int:
    """Count the messages of the system before the first turn."""
    roles = (number for number, message in enumerate(messages) if message.role != "system")
    return next(roles, len(messages))


def _shown(messages: Sequence[AnthropicMessage]) -> Iterable[tuple[int, AnthropicMessage]]:
    """Yield the messages that the model is to read, with their numbers."""
    last_user = max((n for n, each in enumerate(messages) if each.role == "user"), default=-1)
    for number, message in enumerate(messages):
        if message.clear_at != "next_user_message" or number > last_user:
            yield number, message


def _late_system(where: str, block: Block, tools: Tools) -> tuple[str, Block]:
    text = text_of(block, where, tools).strip()
    return where, Block(type="text", text=_LATE_SYSTEM.format(text))


def _of_user(blocks: _Blocks, tools: Tools) -> Iterable[ChatMessage]:
    """Yield the results of tools and what lies between them."""
    for is_result, group in groupby(blocks, key=lambda each: each[1].type == "tool_result"):
        if is_result:
            for where, block in group:
                yield _of_tool(where, block, tools)
        else:
            text = joined([text_of(block, where, tools) for where, block in group])
            yield ChatMessage(role="user", content=text)
    if not blocks:
        yield ChatMessage(role="user", content="")


def _of_tool(where: str, block: Block, tools: Tools) -> ChatMessage:
    if block.tool_use_id is None:
        raise _missing(f"{where}.tool_use_id")
    text = joined(_result_texts(_blocks(block.content, f"{where}.content"), tools))
    if block.is_error and "error" not in text[:64].lower():
        text = f"Error: {text}"  # templates have no other place for it
    return ChatMessage(role="tool", content=text, tool_call_id=block.tool_use_id)


def _result_texts(blocks: _Blocks, tools: Tools) -> Iterable[str]:
    """Yield what a result says; tools that follow each other are told of at once."""
    for is_reference, group in groupby(blocks, key=lambda each: each[1].type == REFERENCE):
        if is_reference:
            yield told_references(list(group), tools)
        else:
            yield from (text_of(part, at, tools) for at, part in group)


@dataclass(slots=True)
class _AssistantTurn:
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[PastToolCall] = field(default_factory=list)


def _of_assistant(blocks: _Blocks, tools: Tools) -> ChatMessage:
    turn = _AssistantTurn()
    for where, block in blocks:
        match block.type:
            case "thinking":
                turn.thoughts.append(block.thinking or "")
            case kind if kind in UNREAD:
                pass
            case "tool_use":
                turn.calls.append(_call(where, block))
            case _:
                turn.texts.append(text_of(block, where, tools))
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


def _blocks(content: str | list[Block] | None, where: str) -> _Blocks:
    if content is None:
        return []
    if isinstance(content, str):
        return [(where, Block(type="text", text=content))]
    return [(f"{where}[{number}]", block) for number, block in enumerate(content)]


def _missing(where: str) -> ApiError:
    return missing(where, where.partition("[")[0])
