"""Anthropic's Messages: what their bodies mean.

Turns and blocks become the messages that chat templates know. Must not know templates, tokens or
HTTP. Its types are in schema/anthropic.py, its answers in messages_answer.py.
"""

import msgspec

from gateway.dialects.anthropic_deferred import known_tools
from gateway.dialects.anthropic_texts import description_of
from gateway.dialects.anthropic_turns import system_message, turn_messages
from gateway.dialects.dialect import Dialect
from gateway.dialects.messages_answer import MessageAnswer
from gateway.errors import invalid, missing
from gateway.requests.text_request import TextRequest, ToolUse
from gateway.schema.anthropic import (
    AnthropicMessage,
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
        max_thought_tokens=_budget(request),
        is_streamed=bool(request.stream),
    )


def conversation_of(request: CountTokensRequest) -> PlainConversation:
    """Return the conversation that a model's template is given."""
    messages: list[ChatMessage] = []
    tools = known_tools(request).tools
    if (system := system_message(request.system, request.messages, tools)) is not None:
        messages.append(system)
    messages += turn_messages(request.messages, tools)
    conversation = PlainConversation(
        messages=messages,
        continue_final_message=request.messages[-1].role == "assistant" or None,
        chat_template_kwargs=request.chat_template_kwargs,
        reasoning_effort=_effort(request),
        thinking_mode=request.thinking.mode if request.thinking else None,
        max_thought_tokens=_budget(request),
    )
    check_conversation(conversation)
    return conversation


def tools_of(request: CountTokensRequest) -> ToolUse | None:
    """Return what the model may call."""
    known = known_tools(request)
    tools = [_tool(tool, known.places[name]) for name, tool in known.tools.items()]
    if len(request.tools or []) > len({tool.name for tool in request.tools or []}):
        raise invalid("Invalid 'tools': two tools have the same name.", "tools")
    choice = request.tool_choice
    is_required = choice is not None and choice.type in ("any", "tool")
    name = (choice.name or "") if choice is not None and choice.type == "tool" else ""
    if choice is not None and choice.type == "tool" and name not in known.tools.keys():
        message = f"Invalid 'tool_choice.name': no tool is named '{name[:128]}'."
        raise invalid(message, "tool_choice")
    barred = known.removed | known.unknown if is_required else known.removed
    allowed = frozenset(known.tools.keys() - barred) if barred else frozenset[str]()
    if is_required and barred and (name or not allowed) and name not in allowed:
        message = (
            "'tool_choice' demands a call, but what could be called is deferred and was not found, "
            "or was removed."
        )
        raise invalid(message, "tool_choice")
    if not tools or (choice is not None and choice.type == "none") or (barred and not allowed):
        return None
    return ToolUse(
        tools=tools,
        is_required=is_required,
        name=name,
        allows_parallel=choice is None or not choice.disable_parallel_tool_use,
        schema_field="{}.input_schema",
        places=list(known.places.values()),
        allowed=allowed,
        untold=frozenset(known.untold),
    )


def _budget(request: CountTokensRequest) -> int | None:
    return request.thinking.budget_tokens if request.thinking else None


def _effort(request: CountTokensRequest) -> str | None:
    """Return how hard to think: what the system says of this turn goes first."""
    effort = request.output_config.effort if request.output_config is not None else None
    of_turn = None
    for message in request.messages:
        if message.role == "user" and _is_said(message):
            of_turn = None
        elif message.output_config is not None and message.output_config.effort is not None:
            of_turn = message.output_config.effort
    return of_turn or effort


def _is_said(message: AnthropicMessage) -> bool:
    """Whether a user says something; results of tools belong to the turn before."""
    content = message.content
    return isinstance(content, str) or any(block.type != "tool_result" for block in content or [])


def _tool(tool: AnthropicTool, where: str) -> Tool:
    if tool.type not in (None, "custom"):
        message = (
            f"Invalid '{where}.type': tools of type '{tool.type[:64]}' are run, or known, by "
            "Anthropic's servers only; this one offers the model tools of type 'custom'."
        )
        raise invalid(message, "tools", "unsupported_parameter")
    if tool.allowed_callers is not None and "direct" not in tool.allowed_callers:
        message = (
            f"Invalid '{where}.allowed_callers': no programs run here; only with \"direct\" can "
            "the model call it."
        )
        raise invalid(message, "tools", "unsupported_parameter")
    if tool.input_schema is None:
        raise missing(f"{where}.input_schema", "tools")
    return Tool(
        function=FunctionDefinition(
            name=tool.name,
            description=description_of(tool),
            parameters=tool.input_schema,
            strict=tool.strict,
        )
    )


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
