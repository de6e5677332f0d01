"""From the messages of a request to token ids: what a template is told, and how it may fail.

Owns the translation of OpenAI's messages and tools into what chat templates expect, and the words
for what cannot be rendered. Knows no HTTP. Called by the chat and tokenize endpoints.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.errors import ApiError, invalid
from gateway.sandbox.chat_template import Conversation, TemplateBusy, TemplateFailure
from gateway.sandbox.chat_templates import ChatTemplates, UnknownTemplate
from gateway.schema.messages import (
    ChatMessage,
    ConversationFields,
    PastFunctionCall,
    Tool,
    Tools,
)
from gateway.text.tokenizer import TokenizerError

# What templates call the switch: most; DeepSeek's, Granite's and Kimi's; MiniMax's, by its mode.
SWITCHES = frozenset(("enable_thinking", "thinking", "thinking_mode"))
# Kimi K3's own word for the effort, of which it knows low, high and max.
_THINKING_EFFORTS = {"medium": "high", "xhigh": "max"}


async def encode_conversation(
    request: ConversationFields,
    tools: Tools | None,
    templates: ChatTemplates | None,
    *,
    add_special_tokens: bool = False,
    check: Callable[[str], None] = lambda text: None,
    salt: str | None = None,
) -> list[int]:
    """Return the token ids of a conversation that has been checked.

    tools: those that the model is told of, which may be none of those given.
    templates: the model's, None if it has none. check: given what was rendered, may raise before it
    is tokenised. salt: see ChatTemplate.encode().
    Raises ApiError 400 for what the model's template does not render, and 429.
    """
    if templates is None:
        message = "This model has no chat template; POST /v1/completions takes plain prompts."
        raise invalid(message, "messages", "no_chat_template")
    try:
        template = templates.choose(request.chat_template, has_tools=bool(tools))
    except UnknownTemplate as error:
        raise invalid(f"Invalid 'chat_template': {error}.", "chat_template") from None
    if tools and not template.supports_tools:
        message = "This model's chat template knows no tools, so the model cannot call any."
        raise invalid(message, "tools", "unsupported_parameter")
    options = _options(request, templates.default_options)
    conversation = _conversation(request, tools, options)
    try:
        return await template.encode(
            conversation, add_special_tokens=add_special_tokens, check=check, salt=salt
        )
    except TemplateFailure as error:
        message = (
            f"The model's chat template does not render these messages: {str(error).rstrip('.')}."
        )
        raise invalid(message, "messages", "chat_template_error") from None
    except TokenizerError as error:
        raise invalid(f"Invalid 'messages': {error}.", "messages") from None
    except TemplateBusy:
        message = "Too many conversations are waiting. Try again in a moment."
        raise ApiError(429, message, code="queue_full", retry_after_s=1.0) from None


def _options(request: ConversationFields, defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the template's variables: the request's go before the server's, as in vLLM."""
    asked = request.chat_template_kwargs or {}
    options = {**defaults, **asked}
    mode, effort = request.thinking_mode, request.reasoning_effort
    if effort is not None:
        options["reasoning_effort"] = effort
        if "thinking_effort" not in asked:
            options["thinking_effort"] = _THINKING_EFFORTS.get(effort, effort)
        mode = mode or ("disabled" if effort in ("none", "minimal") else "adaptive")
    if mode is not None and not SWITCHES & asked.keys():
        options |= dict.fromkeys(SWITCHES, mode != "disabled") | {"thinking_mode": mode}
    if request.max_thought_tokens is not None and "thinking_budget" not in asked:
        options["thinking_budget"] = request.max_thought_tokens
    return options


def past_arguments(given: str | dict[str, Any] | None, where: str) -> dict[str, Any]:
    """Return the object that templates are given: they walk through it, or write it as JSON.

    given: as the API has it, JSON; none, an empty one and null are how some clients write no
    arguments. Raises ApiError 400 for what is no object.
    """
    if isinstance(given, dict):
        return given
    if given is None or not given.strip():
        return {}
    try:
        arguments = msgspec.json.decode(given)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise invalid(f"Invalid '{where}': it is not JSON: {error}.", where) from None
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise invalid(f"Invalid '{where}': the JSON in it must be an object.", where)
    return arguments


def _conversation(
    request: ConversationFields,
    tools: Tools | None,
    options: dict[str, Any],
) -> Conversation:
    continues = bool(request.continue_final_message)
    prompts = request.add_generation_prompt
    return Conversation(
        messages=_messages(request.messages),
        tools=[_tool(tool) for tool in tools] if tools else None,
        documents=request.documents,
        add_generation_prompt=not continues if prompts is None else prompts,
        continues_final_message=continues,
        options=options,
    )


def _messages(messages: list[ChatMessage]) -> list[dict[str, Any]]:
    """Return messages as templates read them: content is a string, arguments are an object."""
    told = []
    function_ids: dict[str, str] = {}  # of the legacy calls so far, by name
    for number, message in enumerate(messages):
        shown = _message(message)
        calls = _calls(message, f"messages[{number}]")
        if message.function_call is not None:
            # Templates know calls by id, some by nine letters and digits alone; these had none.
            call_id = function_ids[message.function_call.name] = f"call{number:05}"
            calls[-1]["id"] = call_id
        if calls:
            shown["tool_calls"] = calls
        if message.role == "function":
            shown["role"] = "tool"
            if answered := function_ids.get(message.name or ""):
                shown.setdefault("tool_call_id", answered)
        told.append(shown)
    return told


def _message(message: ChatMessage) -> dict[str, Any]:
    """Return a message without its calls."""
    told: dict[str, Any] = {"role": message.role, "content": message.text}
    for name in ("name", "tool_call_id"):
        if (value := getattr(message, name)) is not None:
            told[name] = value
    reasoning = message.reasoning_content
    reasoning = message.reasoning if reasoning is None else reasoning
    if reasoning is not None:
        # What Gemma 4's template and gpt-oss's call it; transformers gives all names, too.
        told |= dict.fromkeys(("reasoning_content", "reasoning", "thinking"), reasoning)
    return told


def _calls(message: ChatMessage, where: str) -> list[dict[str, Any]]:
    """Return the calls of a message, that of the legacy field last. where: of the message."""
    calls = []
    for number, call in enumerate(message.tool_calls or []):
        function = _function(call.function, f"{where}.tool_calls[{number}].function")
        told = {"id": call.id, "type": "function", "function": function}
        calls.append({name: value for name, value in told.items() if value is not None})
    if message.function_call is not None:
        function = _function(message.function_call, f"{where}.function_call")
        calls.append({"type": "function", "function": function})
    return calls


def _function(call: PastFunctionCall, where: str) -> dict[str, Any]:
    return {"name": call.name, "arguments": past_arguments(call.arguments, f"{where}.arguments")}


def _tool(tool: Tool) -> dict[str, Any]:
    """Return what a model is told of a tool: what the API keeps for itself is no part of that."""
    function = msgspec.to_builtins(tool.function)
    given = {name: value for name, value in function.items() if value is not None}
    given.pop("strict", None)
    return {"type": tool.type, "function": given}
