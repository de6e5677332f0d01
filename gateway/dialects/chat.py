"""OpenAI's Chat Completions: what their bodies mean, and what their answers look like.

Choices are written by chat_choices.py, streams by chat_stream.py. Must not know templates, tokens
or HTTP. Its types are in schema/chat.py and chat_answer.py.
"""

import secrets
import time
from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from gateway.answers.whole_answer import WholeChoice
from gateway.dialects.chat_choices import ChoiceWriter
from gateway.dialects.chat_stream import ChatStream
from gateway.dialects.dialect import Dialect
from gateway.requests.text_request import TextRequest, ToolUse
from gateway.schema.chat import ChatRequest
from gateway.schema.chat_answer import ChatChunk, ChatCompletion
from gateway.schema.messages import AllowedToolsChoice, NamedToolChoice
from gateway.schema.usage import Usage
from gateway.service import Service


def read_chat(request: ChatRequest) -> TextRequest:
    """Return what a chat asks for."""
    return TextRequest(
        source=request,
        fields=request,
        max_tokens=request.max_output_tokens,
        num_candidates=request.num_choices,
        logprobs=request.num_logprobs,
        prompt_logprobs=request.prompt_logprobs,
        tools=_tool_use(request),
        max_thought_tokens=request.max_thought_tokens,
        is_streamed=bool(request.stream),
        max_tokens_field=request.max_tokens_field,
    )


def _tool_use(request: ChatRequest) -> ToolUse | None:
    if not request.usable_tools:
        return None
    choice = request.call_choice
    return ToolUse(
        tools=request.usable_tools,
        is_required=request.is_call_required,
        name=choice.function.name if isinstance(choice, NamedToolChoice) else "",
        allows_parallel=request.parallel_tool_calls is not False and not request.is_legacy,
        schema_field="functions[{}].parameters"
        if request.is_legacy
        else "tools[{}].function.parameters",
        allowed=frozenset(choice.names if isinstance(choice, AllowedToolsChoice) else ()),
    )


class ChatAnswer:
    """Writes the answer to one request the way it wants to see it."""

    def __init__(self, request: ChatRequest, service: Service) -> None:
        self._writer = ChoiceWriter(request, service.tokenizer)
        self._base = ChatChunk(
            id=f"chatcmpl-{secrets.token_hex(16)}",
            created=int(time.time()),
            model=request.model,
            system_fingerprint=service.system_fingerprint,
            choices=[],
            usage=None if request.include_usage else UNSET,
        )

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> ChatCompletion:
        """Return the answer in one piece."""
        base, writer = self._base, self._writer
        return ChatCompletion(
            id=base.id,
            created=base.created,
            model=base.model,
            system_fingerprint=base.system_fingerprint,
            choices=[writer.choice(whole) for whole in choices],
            usage=usage,
            prompt_logprobs=writer.prompt_logprobs(choices[0].tokens),
            prompt_token_ids=writer.prompt_ids(choices[0].choice),
        )

    def stream(self) -> ChatStream:
        """Return what writes it as chunks."""
        return ChatStream(self._base, self._writer)


CHAT = Dialect(msgspec.json.Decoder(ChatRequest), read_chat, ChatAnswer)
