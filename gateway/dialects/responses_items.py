"""The items of an answer of OpenAI's Responses: thoughts, messages and calls.

What whole answers and streams have in common. Called by responses_answer.py and
responses_stream.py.
"""

import base64
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from backend.wire.messages import FinishReason
from gateway.answers.choice import Choice, Token
from gateway.answers.whole_answer import Call
from gateway.dialects.chat_logprobs import chat_logprobs
from gateway.dialects.responses_offered import all_tools
from gateway.dialects.responses_tools import CalledTools, custom_input, search_arguments
from gateway.schema.chat_answer import TokenLogprob
from gateway.schema.responses import ENCRYPTED_REASONING, ResponsesRequest
from gateway.schema.responses_answer import (
    CustomToolCallItem,
    FunctionCallItem,
    IncompleteDetails,
    InputTokensDetails,
    ItemStatus,
    MessageItem,
    ModelResponse,
    OutputItem,
    OutputText,
    OutputTokensDetails,
    ReasoningItem,
    ReasoningText,
    ResponsesUsage,
    ToolSearchCallItem,
)
from gateway.schema.usage import Usage

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer

# What begins the thoughts that clients keep for us, who cannot read them.
THOUGHTS = "unisono:"


class ItemWriter:
    """Writes items, begun ones and complete ones."""

    def __init__(self, request: ResponsesRequest, tokenizer: "Tokenizer") -> None:
        self.tools = CalledTools([*all_tools(request)])
        self._num_logprobs = request.num_logprobs
        self._tokenizer = tokenizer
        self._is_encrypted = ENCRYPTED_REASONING in (request.include or ())

    @property
    def tells_logprobs(self) -> bool:
        """Whether text has log-probabilities."""
        return self._num_logprobs is not None

    def is_told_whole(self, name: str) -> bool:
        """Whether a stream tells a call of that function only when all of it is there."""
        return self.tools.is_custom(name) or self.tools.is_search(name)

    def message(
        self, item_id: str, text: str, logprobs: list[TokenLogprob], status: ItemStatus
    ) -> MessageItem:
        content = [] if status == "in_progress" else [OutputText(text=text, logprobs=logprobs)]
        return MessageItem(id=item_id, status=status, content=content)

    def reasoning(self, item_id: str, text: str, status: ItemStatus) -> ReasoningItem:
        is_begun = status == "in_progress"
        encoded = THOUGHTS + base64.b64encode(text.encode()).decode()
        return ReasoningItem(
            id=item_id,
            status=status,
            content=[] if is_begun else [ReasoningText(text=text)],
            encrypted_content=encoded if self._is_encrypted and not is_begun else UNSET,
        )

    def call(self, item_id: str, call: Call, status: ItemStatus) -> OutputItem:
        if self.tools.is_search(call.name):
            asked = search_arguments(call.arguments or "{}")
            return ToolSearchCallItem(id=item_id, call_id=call.id, arguments=asked, status=status)
        name, place = self.tools.place(call.name)
        namespace = UNSET if place is None else place
        if self.tools.is_custom(call.name):
            text = custom_input(call.arguments)
            return CustomToolCallItem(
                id=item_id,
                call_id=call.id,
                name=name,
                namespace=namespace,
                input=text,
                status=status,
            )
        return FunctionCallItem(
            id=item_id,
            call_id=call.id,
            name=name,
            namespace=namespace,
            arguments=call.arguments,
            status=status,
        )

    def logprobs(self, tokens: Sequence[Token]) -> list[TokenLogprob]:
        """Return the log-probabilities of an answer's tokens, if they are wanted."""
        if self._num_logprobs is None:
            return []
        return chat_logprobs(tokens, self._num_logprobs, self._tokenizer).content or []


def ended(
    base: ModelResponse, choice: Choice, output: Sequence[OutputItem], usage: Usage
) -> ModelResponse:
    """Return the whole answer. choice: says how it ended."""
    is_cut = choice.finish_reason is FinishReason.LENGTH
    return msgspec.structs.replace(
        base,
        status="incomplete" if is_cut else "completed",
        completed_at=None if is_cut else int(time.time()),
        incomplete_details=IncompleteDetails("max_output_tokens") if is_cut else None,
        output=list(output),
        usage=usage_of(usage),
    )


def usage_of(usage: Usage) -> ResponsesUsage:
    """Return counts of tokens in the names that Responses have for them."""
    details = usage.completion_tokens_details
    return ResponsesUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(usage.prompt_tokens_details.cached_tokens),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(details.reasoning_tokens if details else 0),
        total_tokens=usage.total_tokens,
    )


def item_status(is_cut: bool, is_last: bool) -> ItemStatus:
    """Of an answer that was cut short, the last item is incomplete."""
    return "incomplete" if is_cut and is_last else "completed"


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"
