"""Anthropic's Messages: what their bodies mean.

Turns and blocks become the messages that chat templates know. Must not know templates, tokens or
HTTP. Its types are in schema/anthropic.py, its answers in messages_answer.py.
"""

import msgspec

from gateway.dialects.anthropic_deferred import referenced_names
from gateway.dialects.anthropic_turns import system_message, turn_messages
from gateway.dialects.dialect import Dialect
from gateway.dialects.messages_answer import MessageAnswer
from gateway.errors import invalid, missing
from gateway.requests.text_request import TextRequest, ToolUse
from gateway.schema.anthropic import (
    AnthropicTool,
    CountTokensRequest,
    MessagesRequest,
    OutputFormat,
)
from gateway.schema.messages import (
    ChatMessage,
    FunctionDefinition,
    PlainConversation,
    Tool,
    check_conversation,
)
from gateway.schema.sampling import SamplingFields
from gateway.schema.structured import JsonSchemaFormat, ResponseFormat


def read_messages(request: MessagesRequest) -> TextRequest:
    """Return what a request for a message asks for. Raises ApiError for what is not to be had."""
    fields = SamplingFields(
        model=request.model,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        stop=request.stop_sequences or None,
        stream=request.stream,
        response_format=_response_format(request.format),
    )
    return TextRequest(
        source=conversation_of(request),
        fields=fields,
        max_tokens=request.max_tokens,
        takes_what_fits=True,
        tools=tools_of(request),
        max_thought_tokens=request.thinking.budget_tokens if request.thinking else None,
        is_streamed=bool(request.stream),
    )


def conversation_of(request: CountTokensRequest) -> PlainConversation:
    """Return the conversation that a model's template is given."""
    messages: list[ChatMessage] = []
    if (system := system_message(request.system, request.messages)) is not None:
        messages.append(system)
    messages += turn_messages(request.messages, request.tools or [])
    config = request.output_config
    conversation = PlainConversation(
        messages=messages,
        continue_final_message=request.messages[-1].role == "assistant" or None,
        chat_template_kwargs=_template_options(request),
        reasoning_effort=None if config is None else config.effort,
    )
    check_conversation(conversation)
    return conversation


def tools_of(request: CountTokensRequest) -> ToolUse | None:
    """Return what the model may call."""
    tools = [_tool(tool, f"tools[{number}]") for number, tool in enumerate(request.tools or [])]
    choice = request.tool_choice
    if not tools or (choice is not None and choice.type == "none"):
        return None
    if len({tool.function.name for tool in tools}) < len(tools):
        raise invalid("Invalid 'tools': two tools have the same name.", "tools")
    untold, unknown = _deferred(request)
    if choice is None:
        return ToolUse(tools=tools, untold=untold)
    name = ""
    if choice.type == "tool":
        name = choice.name or ""
        if name not in {tool.function.name for tool in tools}:
            message = f"Invalid 'tool_choice.name': no tool is named '{name[:128]}'."
            raise invalid(message, "tool_choice")
    is_required = choice.type in ("any", "tool")
    known = {tool.function.name for tool in tools} - unknown
    if is_required and not known:
        message = "'tool_choice' demands a call, but the model knows no tool yet: all are deferred."
        raise invalid(message, "tool_choice")
    return ToolUse(
        tools=tools,
        is_required=is_required,
        name=name,
        allows_parallel=not choice.disable_parallel_tool_use,
        schema_field="tools[{}].input_schema",
        allowed=frozenset(known) if is_required and unknown else frozenset(),
        untold=untold,
    )


def _deferred(request: CountTokensRequest) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the tools that were deferred, and of those nothing refers to."""
    deferred = frozenset(tool.name for tool in request.tools or [] if tool.defer_loading)
    if not deferred:
        return deferred, deferred
    return deferred, deferred - referenced_names(request.messages)


def _tool(tool: AnthropicTool, where: str) -> Tool:
    if tool.type not in (None, "custom"):
        message = (
            f"Invalid '{where}.type': tools of type '{tool.type[:64]}' are run, or known, by "
            "Anthropic's servers only; this one offers the model tools of type 'custom'."
        )
        raise invalid(message, "tools", "unsupported_parameter")
    if tool.input_schema is None:
        raise missing(f"{where}.input_schema", "tools")
    return Tool(
        function=FunctionDefinition(
            name=tool.name,
            description=tool.description,
            parameters=tool.input_schema,
            strict=tool.strict,
        )
    )


def _template_options(request: CountTokensRequest) -> dict[str, object] | None:
    """Return the template's variables: whether to think, unless the request sets that itself."""
    options = request.chat_template_kwargs or {}
    if request.thinking is None or "enable_thinking" in options:
        return request.chat_template_kwargs
    return {**options, "enable_thinking": request.thinking.type != "disabled"}


def _response_format(asked: OutputFormat | None) -> ResponseFormat | None:
    if asked is None:
        return None
    schema = JsonSchemaFormat(schema=asked.schema, strict=True)
    return ResponseFormat(type="json_schema", json_schema=schema)


# What refusals call by the names of a chat.
_WORDS = {
    "response_format.json_schema": "output_config.format",
    "response_format": "output_config.format",
}

MESSAGES = Dialect(msgspec.json.Decoder(MessagesRequest), read_messages, MessageAnswer, _WORDS)
COUNT_TOKENS = msgspec.json.Decoder(CountTokensRequest)
