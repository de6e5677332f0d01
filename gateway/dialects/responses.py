"""OpenAI's Responses: what their bodies mean. No answer is stored; a request says all there was.

Items become the messages that chat templates know: thoughts, text and calls of the model that
follow each other are one message of the assistant. How answers look is in responses_answer.py. Must
not know templates, tokens or HTTP.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from gateway.dialects.dialect import Dialect
from gateway.dialects.responses_answer import ResponsesAnswer
from gateway.dialects.responses_items import THOUGHTS
from gateway.dialects.responses_tools import CUSTOM_INPUT, function_name, functions_of
from gateway.errors import invalid, missing
from gateway.requests.conversation import past_arguments
from gateway.requests.text_request import TextRequest, ToolUse
from gateway.schema.chat import ChatRequest
from gateway.schema.messages import (
    ChatMessage,
    PastFunctionCall,
    PastToolCall,
    Tool,
)
from gateway.schema.responses import (
    InputItem,
    ItemPart,
    ResponsesRequest,
    ResponsesToolChoice,
    TextOptions,
)
from gateway.schema.sampling import SamplingFields
from gateway.schema.structured import JsonSchemaFormat, ResponseFormat

_TEXT_PARTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")


def read_responses(request: ResponsesRequest) -> TextRequest:
    """Return what a request asks for. Raises ApiError for what means nothing here."""
    functions = functions_of(request.tools or [])
    tools = _tool_use(request, functions)
    reasoning = request.reasoning
    # What requests have in common, in the words of a chat.
    shared = {name: getattr(request, name) for name in SamplingFields.__struct_fields__}
    chat = ChatRequest(
        **shared
        | {
            "messages": _messages(request),
            "tools": functions or None,
            "response_format": _response_format(request.text),
            "chat_template_kwargs": request.chat_template_kwargs,
            "reasoning_effort": reasoning.effort if reasoning else None,
        }
    )
    return TextRequest(
        source=chat,
        fields=chat,
        max_tokens=request.max_output_tokens,
        logprobs=request.num_logprobs,
        tools=tools,
        is_streamed=bool(request.stream),
        prompt_field="input",
        max_tokens_field="max_output_tokens",
    )


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


def _messages(request: ResponsesRequest) -> list[ChatMessage]:
    """Return the conversation that an input is."""
    messages: list[ChatMessage] = []
    if request.instructions:
        messages.append(ChatMessage(role="system", content=request.instructions))
    if isinstance(request.input, str):
        return [*messages, ChatMessage(role="user", content=request.input)]
    turn = _Turn()
    for index, item in enumerate(request.input):
        where = f"input[{index}]"
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
    if item.type in ("function_call", "custom_tool_call"):
        return True
    is_own = item.type == "reasoning" or (item.type == "message" and item.role == "assistant")
    return is_own and not turn.is_begun


def _ended(turn: _Turn) -> list[ChatMessage]:
    # Thoughts that nothing follows belong to no message.
    return [turn.message()] if turn.is_begun else []


def _message(item: InputItem, turn: _Turn, where: str) -> ChatMessage | None:
    """Return the message that an item is; None where it became part of the turn."""
    match item.type:
        case "message" if item.role == "assistant":
            turn.text = _text(item.content, f"{where}.content")
        case "message":
            if item.role is None:
                raise missing(f"{where}.role")
            return ChatMessage(role=item.role, content=_text(item.content, f"{where}.content"))
        case "reasoning":
            turn.reasoning += _thoughts(item, where)
        case "function_call" | "custom_tool_call":
            turn.calls.append(_call(item, where))
        case "function_call_output" | "custom_tool_call_output":
            if item.call_id is None:
                raise missing(f"{where}.call_id")
            output = _text(item.output, f"{where}.output")
            return ChatMessage(role="tool", content=output, tool_call_id=item.call_id)
        case "item_reference":
            message = f"Invalid '{where}': no items are stored here; send the item itself."
            raise invalid(message, where, "unsupported_parameter")
        case other:
            message = f"Invalid '{where}': items of type '{other[:40]}' mean nothing to this model."
            raise invalid(message, where, "unsupported_parameter")
    return None


def _call(item: InputItem, where: str) -> PastToolCall:
    is_custom = item.type == "custom_tool_call"
    arguments = item.input if is_custom else item.arguments
    for name, value in (
        ("call_id", item.call_id),
        ("name", item.name),
        ("input" if is_custom else "arguments", arguments),
    ):
        if value is None:
            raise missing(f"{where}.{name}")
    assert item.call_id is not None and item.name is not None and arguments is not None
    named = (
        {CUSTOM_INPUT: arguments} if is_custom else past_arguments(arguments, f"{where}.arguments")
    )
    name = function_name(item.name, item.namespace)
    return PastToolCall(id=item.call_id, function=PastFunctionCall(name=name, arguments=named))


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


def _response_format(text: TextOptions | None) -> ResponseFormat | None:
    asked = text.format if text is not None else None
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return ResponseFormat(type="json_object")
    if asked.schema is None:
        raise missing("text.format.schema")
    schema = JsonSchemaFormat(
        name=asked.name, description=asked.description, schema=asked.schema, strict=asked.strict
    )
    return ResponseFormat(type="json_schema", json_schema=schema)


def _tool_use(request: ResponsesRequest, functions: list[Tool]) -> ToolUse | None:
    choice = request.tool_choice
    is_required = choice == "required" or isinstance(choice, ResponsesToolChoice)
    name, allowed = "", frozenset[str]()
    if isinstance(choice, ResponsesToolChoice):
        if choice.type == "allowed_tools":
            is_required = choice.mode == "required"
            allowed = _allowed(choice, functions)
        elif choice.type in ("function", "custom"):
            if choice.name is None:
                raise missing("tool_choice.name")
            name = choice.name
            _check_known([name], functions)
        else:
            message = f"Invalid 'tool_choice': there are no tools of type '{choice.type[:40]}'."
            raise invalid(message, "tool_choice", "unsupported_parameter")
    if choice == "none" or not functions:
        if is_required:
            message = "'tool_choice' may only be given together with 'tools'."
            raise invalid(message, "tool_choice")
        return None
    return ToolUse(
        tools=functions,
        is_required=is_required,
        name=name,
        allows_parallel=request.parallel_tool_calls is not False,
        schema_field="tools[{}].parameters",
        allowed=allowed,
    )


def _allowed(choice: ResponsesToolChoice, functions: list[Tool]) -> frozenset[str]:
    """Return the names of those that may be called; the model is told of all."""
    names = [tool.name or "" for tool in choice.tools or []]
    if not names:
        message = "Invalid 'tool_choice': it allows no tool; \"none\" says so."
        raise invalid(message, "tool_choice")
    _check_known(names, functions)
    return frozenset(names)


def _check_known(names: Iterable[str], functions: list[Tool]) -> None:
    known = {tool.function.name for tool in functions}
    for name in names:
        if name not in known:
            message = f"Invalid 'tool_choice': no tool is named '{name[:64]}'."
            raise invalid(message, "tool_choice")


# What the messages and the format that are made here are called by who asked.
_WORDS = {
    "messages": "input",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
}

RESPONSES = Dialect(msgspec.json.Decoder(ResponsesRequest), read_responses, ResponsesAnswer, _WORDS)
