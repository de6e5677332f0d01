"""Ollama's chat and generate: what their bodies mean.

Must not know templates, tokens or HTTP. Its types are in schema/ollama.py, its answers in
ollama_answer.py.
"""

from typing import Any

import msgspec

from gateway.dialects.dialect import Dialect
from gateway.dialects.ollama_answer import OllamaAnswer
from gateway.requests.text_request import PlainPrompts, TextRequest, ToolUse
from gateway.schema.messages import (
    ChatMessage,
    ConversationFields,
    PastFunctionCall,
    PastToolCall,
    PlainConversation,
    check_conversation,
)
from gateway.schema.ollama import (
    OllamaChatRequest,
    OllamaGenerateRequest,
    OllamaMessage,
    OllamaOptions,
    OllamaTextRequest,
)
from gateway.schema.sampling import SamplingFields
from gateway.schema.structured import JsonSchemaFormat, ResponseFormat


def read_chat(request: OllamaChatRequest) -> TextRequest:
    """Return what a chat asks for."""
    messages = _chat_messages(request.messages or [])
    tools = ToolUse(tools=request.tools) if request.tools else None
    return _text_request(request, _conversation(request, messages), "messages", tools)


def read_generate(request: OllamaGenerateRequest) -> TextRequest:
    """Return what a prompt asks for: a user's message, unless it is raw or has a suffix."""
    prompt = request.prompt or ""
    if request.raw or request.suffix:
        plain = PlainPrompts(prompts=[prompt], suffix=request.suffix or "")
        return _text_request(request, plain, "prompt")
    messages = [ChatMessage(role="user", content=prompt)]
    if request.system:
        messages.insert(0, ChatMessage(role="system", content=request.system))
    return _text_request(request, _conversation(request, messages), "prompt")


def _text_request(
    request: OllamaTextRequest,
    source: PlainPrompts | ConversationFields,
    prompt_field: str,
    tools: ToolUse | None = None,
) -> TextRequest:
    options = request.options or OllamaOptions()
    max_tokens = options.num_predict if (options.num_predict or 0) > 0 else None
    fields = SamplingFields(
        model=request.model,
        max_tokens=max_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        seed=options.seed if (options.seed or 0) >= 0 else None,
        stop=options.stop or None,
        repetition_penalty=options.repeat_penalty,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        stream=request.is_streamed,
        response_format=_response_format(request.format),
    )
    return TextRequest(
        source=source,
        fields=fields,
        max_tokens=max_tokens,
        takes_what_fits=True,
        logprobs=request.num_logprobs,
        tools=tools,
        is_streamed=request.is_streamed,
        prompt_field=prompt_field,
        max_tokens_field="options.num_predict",
    )


def _response_format(asked: str | dict[str, Any] | None) -> ResponseFormat | None:
    if isinstance(asked, dict):
        schema = JsonSchemaFormat(schema=asked, strict=True)
        return ResponseFormat(type="json_schema", json_schema=schema)
    return ResponseFormat(type="json_object") if asked else None


def _conversation(request: OllamaTextRequest, messages: list[ChatMessage]) -> PlainConversation:
    think = request.think
    conversation = PlainConversation(
        messages=messages,
        continue_final_message=(messages[-1].role == "assistant" and bool(messages[-1].text))
        or None,
        reasoning_effort=think if isinstance(think, str) else None,
        thinking_mode=("enabled" if think else "disabled") if isinstance(think, bool) else None,
    )
    check_conversation(conversation)
    return conversation


def _chat_messages(messages: list[OllamaMessage]) -> list[ChatMessage]:
    """Return messages whose calls and results belong together by ids, which Ollama's may lack."""
    written: list[ChatMessage] = []
    waiting: list[tuple[str, str]] = []  # ids and names of calls without a result
    for message in messages:
        calls = [
            PastToolCall(
                id=call.id or f"call_{len(written)}_{number}",
                type="function",
                function=PastFunctionCall(
                    name=call.function.name, arguments=call.function.arguments
                ),
            )
            for number, call in enumerate(message.tool_calls or [])
        ]
        waiting += [(call.id or "", call.function.name) for call in calls]
        call_id = _answered_call(message, waiting) if message.role == "tool" else None
        written.append(
            ChatMessage(
                role=message.role,
                content=message.content or ("" if not calls else None),
                reasoning_content=message.thinking,
                tool_calls=calls or None,
                tool_call_id=call_id,
                name=message.tool_name or None if message.role == "tool" else None,
            )
        )
    return written


def _answered_call(message: OllamaMessage, waiting: list[tuple[str, str]]) -> str:
    """Return the id of the call that a result is of, which then waits no longer.

    It is the one that the message names; else the first.
    """
    if message.tool_call_id is not None:
        waiting[:] = [call for call in waiting if call[0] != message.tool_call_id]
        return message.tool_call_id
    named = [call for call in waiting if call[1] == message.tool_name]
    found = (named or waiting or [("call_0", "")])[0]
    if found in waiting:
        waiting.remove(found)
    return found[0]


# What refusals call by the names of a chat.
_WORDS = {
    "response_format.json_schema.schema": "format",
    "response_format.json_schema": "format",
    "response_format": "format",
    "max_tokens": "options.num_predict",
}

OLLAMA_CHAT = Dialect(msgspec.json.Decoder(OllamaChatRequest), read_chat, OllamaAnswer, _WORDS)
OLLAMA_GENERATE = Dialect(
    msgspec.json.Decoder(OllamaGenerateRequest), read_generate, OllamaAnswer, _WORDS
)
