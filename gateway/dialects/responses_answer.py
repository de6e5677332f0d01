"""OpenAI's Responses: what answers look like. How requests are read is in responses.py.

An answer is a list of items (responses_items.py), whole or told of as they come
(responses_stream.py).
"""

import secrets
import time
from collections.abc import Sequence

import msgspec

from backend.wire.messages import FinishReason
from gateway.answers.whole_answer import WholeChoice
from gateway.dialects.chat_logprobs import ContentTokens
from gateway.dialects.responses_items import ItemWriter, ended, item_status, new_id
from gateway.dialects.responses_stream import ResponsesStream
from gateway.schema.responses import Reasoning, ResponsesRequest, TextFormat, TextOptions
from gateway.schema.responses_answer import ModelResponse, OutputItem
from gateway.schema.usage import Usage
from gateway.service import Service


class ResponsesAnswer:
    """Writes the answer to one request."""

    def __init__(self, request: ResponsesRequest, service: Service) -> None:
        self._writer = ItemWriter(request, service.tokenizer)
        reasoning, text = request.configuration
        text = text or TextOptions()
        self._base = ModelResponse(
            id=f"resp_{secrets.token_hex(16)}",
            created_at=int(time.time()),
            status="in_progress",
            instructions=request.instructions,
            max_output_tokens=request.max_output_tokens,
            max_tool_calls=request.max_tool_calls,
            metadata=request.metadata or {},
            model=request.model,
            output=[],
            parallel_tool_calls=request.parallel_tool_calls is not False,
            prompt_cache_key=request.prompt_cache_key,
            reasoning=reasoning or Reasoning(),
            safety_identifier=request.safety_identifier,
            temperature=request.temperature,
            text=msgspec.structs.replace(text, format=text.format or TextFormat(type="text")),
            tool_choice="auto" if request.tool_choice is None else request.tool_choice,
            tools=request.tools or [],
            top_logprobs=request.top_logprobs or 0,
            top_p=request.top_p,
            user=request.user,
        )

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> ModelResponse:
        """Return the answer in one piece."""
        return ended(self._base, choices[0].choice, self._items(choices[0]), usage)

    def stream(self) -> ResponsesStream:
        """Return what writes it as events."""
        return ResponsesStream(self._base, self._writer)

    def _items(self, whole: WholeChoice) -> list[OutputItem]:
        writer, is_cut = self._writer, whole.choice.finish_reason is FinishReason.LENGTH
        items: list[OutputItem] = []
        if whole.reasoning:
            is_last = not whole.text and not whole.calls
            items.append(
                writer.reasoning(new_id("rs"), whole.reasoning, item_status(is_cut, is_last))
            )
        if whole.text or not (whole.calls or whole.reasoning):
            tokens = ContentTokens().take(whole.events, whole.own_tokens)
            logprobs = writer.logprobs(tokens)
            status = item_status(is_cut, not whole.calls)
            items.append(writer.message(new_id("msg"), whole.text, logprobs, status))
        for call in whole.calls:
            status = item_status(is_cut, call is whole.calls[-1])
            items.append(writer.call(new_id("fc"), call, status))
        return items
