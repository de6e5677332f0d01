"""OpenAI's Responses: what their bodies mean. No answer is stored; a request says all there was.

The input becomes a conversation in responses_turns.py, its tools functions in
responses_offered.py. How answers look is in responses_answer.py. Must not know templates, tokens or
HTTP.
"""

import msgspec

from gateway.dialects.dialect import Dialect
from gateway.dialects.responses_answer import ResponsesAnswer
from gateway.dialects.responses_offered import OfferedTools, offered_tools
from gateway.dialects.responses_turns import conversation_of
from gateway.errors import invalid, missing
from gateway.requests.text_request import TextRequest, ToolUse
from gateway.schema.chat import ChatRequest
from gateway.schema.responses import ResponsesRequest, ResponsesToolChoice, TextOptions
from gateway.schema.structured import JsonSchemaFormat, ResponseFormat
from gateway.schema.thinking import ThinkingFields


def read_responses(request: ResponsesRequest) -> TextRequest:
    """Return what a request asks for. Raises ApiError for what means nothing here."""
    offered = offered_tools(request)
    tools = _tool_use(request, offered)
    reasoning, text = request.configuration
    # What requests have in common, in the words of a chat.
    shared = {name: getattr(request, name) for name in ThinkingFields.__struct_fields__}
    chat = ChatRequest(
        **shared
        | {
            "messages": conversation_of(request, offered.told_at),
            "tools": offered.functions or None,
            "response_format": _response_format(text),
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
        max_thought_tokens=request.max_thought_tokens,
        is_streamed=bool(request.stream),
        prompt_field="input",
        max_tokens_field="max_output_tokens",
    )


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


def _tool_use(request: ResponsesRequest, offered: OfferedTools) -> ToolUse | None:
    choice = request.tool_choice
    is_required = choice == "required" or isinstance(choice, ResponsesToolChoice)
    name, allowed = "", frozenset[str]()
    if isinstance(choice, ResponsesToolChoice):
        if choice.type == "allowed_tools":
            is_required = choice.mode == "required"
            allowed = _allowed(choice, offered)
        elif choice.type in ("function", "custom"):
            if choice.name is None:
                raise missing("tool_choice.name")
            name = offered.named(choice.name)
        else:
            message = f"Invalid 'tool_choice': there are no tools of type '{choice.type[:40]}'."
            raise invalid(message, "tool_choice", "unsupported_parameter")
    if choice == "none" or not offered.offers:
        if is_required:
            message = "'tool_choice' may only be given together with 'tools'."
            raise invalid(message, "tool_choice")
        return None
    if is_required and offered.unknown and not allowed:
        allowed = frozenset(offered.offers.keys() - offered.unknown)
    return ToolUse(
        tools=offered.functions,
        is_required=is_required,
        name=name,
        allows_parallel=request.parallel_tool_calls is not False,
        schema_field="{}.parameters",
        places=[offer.place for offer in offered.offers.values()],
        allowed=allowed,
        untold=frozenset(offered.untold),
    )


def _allowed(choice: ResponsesToolChoice, offered: OfferedTools) -> frozenset[str]:
    """Return the names of those that may be called; the model is told of all."""
    names = [tool.name or tool.type for tool in choice.tools or []]
    if not names:
        message = "Invalid 'tool_choice': it allows no tool; \"none\" says so."
        raise invalid(message, "tool_choice")
    return frozenset(map(offered.named, names))


# What the messages and the format that are made here are called by who asked.
_WORDS = {
    "messages": "input",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
}

RESPONSES = Dialect(msgspec.json.Decoder(ResponsesRequest), read_responses, ResponsesAnswer, _WORDS)
