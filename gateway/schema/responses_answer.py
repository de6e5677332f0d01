"""OpenAI's Responses as types: what an answer looks like, whole and as the events of a stream.

Requests are in responses.py. gateway/dialects writes these.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gateway.schema.chat_answer import TokenLogprob
from gateway.schema.responses import (
    Reasoning,
    ResponsesTool,
    ResponsesToolChoice,
    TextOptions,
)

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputText(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="output_text"):
    """What the model said."""

    text: str
    annotations: list[Any] = []
    logprobs: list[TokenLogprob] = []


class ReasoningText(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="reasoning_text"
):
    """What the model thought."""

    text: str


class MessageItem(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """A message of the model."""

    id: str
    status: ItemStatus
    role: Literal["assistant"] = "assistant"
    content: list[OutputText]


class ReasoningItem(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="reasoning"):
    """Thoughts. encrypted_content: the same in a form that clients give back, if asked for."""

    id: str
    status: ItemStatus
    summary: list[Any] = []
    content: list[ReasoningText]
    encrypted_content: str | UnsetType = UNSET


class FunctionCallItem(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="function_call"
):
    """A call of a function. arguments: JSON."""

    id: str
    call_id: str
    name: str
    namespace: str | UnsetType = UNSET
    arguments: str
    status: ItemStatus


class CustomToolCallItem(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="custom_tool_call"
):
    """A call of a custom tool. input: text."""

    id: str
    call_id: str
    name: str
    namespace: str | UnsetType = UNSET
    input: str
    status: ItemStatus


class ToolSearchCallItem(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tool_search_call"
):
    """A search for tools, which the client does. arguments: text of a call that was cut short."""

    id: str
    call_id: str
    execution: Literal["client"] = "client"
    arguments: dict[str, Any] | str
    status: ItemStatus


OutputItem = (
    MessageItem | ReasoningItem | FunctionCallItem | CustomToolCallItem | ToolSearchCallItem
)


class InputTokensDetails(msgspec.Struct, frozen=True):
    """cached_tokens: input tokens whose keys and values were still there from other requests."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(msgspec.Struct, frozen=True):
    """reasoning_tokens: those of the answer's thoughts."""

    reasoning_tokens: int = 0


class ResponsesUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts of an answer."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(msgspec.Struct, frozen=True):
    """Why an answer ends before its end."""

    reason: Literal["max_output_tokens"]


class ResponseFault(msgspec.Struct, frozen=True):
    """Why an answer broke off."""

    code: str
    message: str


class ModelResponse(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, and what was asked for. Not all that was asked comes back: the input does not."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    background: Literal[False] = False
    error: ResponseFault | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None = None
    metadata: dict[str, Any]
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: None = None
    prompt_cache_key: str | None = None
    reasoning: Reasoning
    safety_identifier: str | None = None
    service_tier: str = "default"
    store: Literal[False] = False
    temperature: float | None
    text: TextOptions
    tool_choice: Literal["none", "auto", "required"] | ResponsesToolChoice
    tools: list[ResponsesTool]
    top_logprobs: int
    top_p: float | None
    truncation: Literal["disabled"] = "disabled"
    usage: ResponsesUsage | None = None
    user: str | None = None


class ResponsesEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event of a streamed answer; which fields there are follows from its type."""

    type: str
    sequence_number: int
    response: ModelResponse | None = None
    output_index: int | UnsetType = UNSET
    item: OutputItem | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    content_index: int | UnsetType = UNSET
    part: OutputText | ReasoningText | UnsetType = UNSET
    delta: str | UnsetType = UNSET
    logprobs: list[TokenLogprob] | UnsetType = UNSET
    text: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    input: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


class InputTokens(msgspec.Struct, frozen=True):
    """How many tokens an input is."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"
