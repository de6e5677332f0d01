"""The input of OpenAI's Responses as the messages that chat templates know.

Thoughts, text and calls of the model that follow each other are one message of the assistant. Must
not know templates, tokens or HTTP. Called by responses.py.
"""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.dialects.responses_items import THOUGHTS
from gateway.dialects.responses_offered import ADDED, FOUND
from gateway.dialects.responses_tools import CUSTOM_INPUT, SEARCH, function_name
from gateway.dialects.told_functions import told
from gateway.errors import invalid, missing
from gateway.requests.conversation import past_arguments
from gateway.schema.messages import ChatMessage, PastFunctionCall, PastToolCall, Tool
from gateway.schema.responses import InputItem, ItemPart, ResponsesRequest

_TEXT_PARTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_CALLS = ("function_call", "custom_tool_call", "tool_search_call")


@dataclass(slots=True)
class _Turn:
    """What the model said in one go, while it is put together."""

    reasoning: str = ""
    text: str | None = None
    calls: list[PastToolCall] = field(default_factory=list)

    @property
    def is_begun(self) -> bool:
        return self.text is not None or bool(self.calls)

    def message(self) -> ChatMessage:
        return ChatMessage(
            role="assistant",
            content=self.text,
            reasoning_content=self.reasoning or None,
            tool_calls=self.calls or None,
        )


def conversation_of(
    request: ResponsesRequest, told_at: Mapping[int, Sequence[Tool]]
) -> list[ChatMessage]:
    """Return the conversation that an input is.

    told_at: the tools that an item tells of, by its place in the input. Raises ApiError for what
    means nothing here.
    """
    messages: list[ChatMessage] = []
    if request.instructions:
        messages.append(ChatMessage(role="system", content=request.instructions))
    if isinstance(request.input, str):
        return [*messages, ChatMessage(role="user", content=request.input)]
    turn = _Turn()
    for index, item in enumerate(request.input):
        where = f"input[{index}]"
        if item.type in (ADDED, FOUND):
            messages += _ended(turn)
            turn = _Turn()
            messages += _told(item, told_at.get(index, ()), where)
            continue
        if not _continues(turn, item):
            messages += _ended(turn)
            turn = _Turn()
        if (message := _message(item, turn, where)) is not None:
            messages.append(message)
    messages += _ended(turn)
    if not messages:
        raise invalid("Invalid 'input': nothing in it can be answered.", "input")
    return messages


def _continues(turn: _Turn, item: InputItem) -> bool:
    """Whether an item belongs to what the model said before it."""
    if item.type in _CALLS or item.type == "configuration_update":
        return True
    is_own = item.type == "reasoning" or (item.type == "message" and item.role == "assistant")
    return is_own and not turn.is_begun


def _ended(turn: _Turn) -> list[ChatMessage]:
    # Thoughts that nothing follows belong to no message.
    return [turn.message()] if turn.is_begun else []


def _told(item: InputItem, tools: Sequence[Tool], where: str) -> list[ChatMessage]:
    """Return the message in which the model reads what tools there are."""
    functions = [tool.function for tool in tools]
    text = told((each.name, each.description, each.parameters) for each in functions)
    if item.type == ADDED:
        return [ChatMessage(role="developer", content=text)] if tools else []
    if item.call_id is None:
        raise missing(f"{where}.call_id")
    return [
        ChatMessage(
            role="tool",
            content=text if tools else "No tool was found.",
            tool_call_id=item.call_id,
        )
    ]


def _message(item: InputItem, turn: _Turn, where: str) -> ChatMessage | None:
    """Return the message that an item is; None where it became part of the turn."""
    if (read := _READERS.get(item.type)) is None:
        message = f"Invalid '{where}': items of type '{item.type[:40]}' mean nothing to this model."
        raise invalid(message, where, "unsupported_parameter")
    return read(item, turn, where)


def _said(item: InputItem, turn: _Turn, where: str) -> ChatMessage | None:
    if item.role is None:
        raise missing(f"{where}.role")
    text = _text(item.content, f"{where}.content")
    if item.role != "assistant":
        return ChatMessage(role=item.role, content=text)
    turn.text = text
    return None


def _thought(item: InputItem, turn: _Turn, where: str) -> None:
    turn.reasoning += _thoughts(item, where)


def _called(item: InputItem, turn: _Turn, where: str) -> None:
    turn.calls.append(_call(item, where))


def _result(item: InputItem, turn: _Turn, where: str) -> ChatMessage:
    if item.call_id is None:
        raise missing(f"{where}.call_id")
    output = _text(item.output, f"{where}.output")
    return ChatMessage(role="tool", content=output, tool_call_id=item.call_id)


def _of_agent(item: InputItem, turn: _Turn, where: str) -> ChatMessage:
    """Codex's agents write to each other so."""
    text = _text(item.content, f"{where}.content")
    return ChatMessage(role="user", content=f"From {item.author} to {item.recipient}:\n{text}")


def _nothing(item: InputItem, turn: _Turn, where: str) -> None:
    """Pass by what says how to answer, not what was said."""


def _reference(item: InputItem, turn: _Turn, where: str) -> None:
    message = f"Invalid '{where}': no items are stored here; send the item itself."
    raise invalid(message, where, "unsupported_parameter")


def _compaction(item: InputItem, turn: _Turn, where: str) -> None:
    message = (
        f"Invalid '{where}': what another server made shorter only that server can read. Send what "
        "was said itself."
    )
    raise invalid(message, where, "unsupported_parameter")


_READERS: dict[str, Callable[[InputItem, _Turn, str], ChatMessage | None]] = {
    "message": _said,
    "reasoning": _thought,
    **dict.fromkeys(_CALLS, _called),
    "function_call_output": _result,
    "custom_tool_call_output": _result,
    "agent_message": _of_agent,
    "configuration_update": _nothing,
    "item_reference": _reference,
    "compaction": _compaction,
    "compaction_trigger": _compaction,
}


def _call(item: InputItem, where: str) -> PastToolCall:
    is_custom, is_search = item.type == "custom_tool_call", item.type == "tool_search_call"
    if is_search and item.execution == "server":
        message = f"Invalid '{where}.execution': no searches for tools are done here."
        raise invalid(message, f"{where}.execution", "unsupported_parameter")
    name = SEARCH if is_search else item.name
    arguments = item.input if is_custom else item.arguments
    for field_name, value in (
        ("call_id", item.call_id),
        ("name", name),
        ("input" if is_custom else "arguments", arguments),
    ):
        if value is None:
            raise missing(f"{where}.{field_name}")
    assert item.call_id is not None and name is not None and arguments is not None
    named = (
        {CUSTOM_INPUT: arguments} if is_custom else past_arguments(arguments, f"{where}.arguments")
    )
    function = PastFunctionCall(name=function_name(name, item.namespace), arguments=named)
    return PastToolCall(id=item.call_id, function=function)


def _thoughts(item: InputItem, where: str) -> str:
    """Return what an item says was thought: in full, as a summary, or in our own form."""
    if item.content:
        return _text(item.content, f"{where}.content")
    if item.encrypted_content is not None and item.encrypted_content.startswith(THOUGHTS):
        try:
            encoded = item.encrypted_content.removeprefix(THOUGHTS)
            return base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            name = f"{where}.encrypted_content"
            raise invalid(f"Invalid '{name}': it was changed.", name) from None
    return _text(item.summary or [], f"{where}.summary")


def _text(content: str | Sequence[ItemPart] | None, where: str) -> str:
    if content is None:
        raise missing(where)
    if isinstance(content, str):
        return content
    return "".join(_part(part, f"{where}[{index}]") for index, part in enumerate(content))


def _part(part: ItemPart, where: str) -> str:
    if part.type == "refusal":
        name, text = "refusal", part.refusal
    elif part.type in _TEXT_PARTS:
        name, text = "text", part.text
    else:
        message = (
            f"Invalid '{where}': this model reads text only, not parts of type '{part.type[:40]}'."
        )
        raise invalid(message, where, "unsupported_content")
    if text is None:
        raise missing(f"{where}.{name}")
    return text
