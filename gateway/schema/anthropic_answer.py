"""Anthropic's Messages as types: what an answer looks like, whole and as the events of a stream."""

from typing import Any, Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType


class _Typed(msgspec.Struct, frozen=True, tag_field="type"):
    """One of several kinds, which its field `type` tells apart."""


class TextBlock(_Typed, frozen=True, kw_only=True, tag="text"):
    """What the model says."""

    text: str


class ThinkingBlock(_Typed, frozen=True, kw_only=True, tag="thinking"):
    """What the model thought. signature: means nothing, but some clients drop thoughts without."""

    thinking: str
    signature: str


class ToolUseBlock(_Typed, frozen=True, kw_only=True, tag="tool_use"):
    """A call of a function."""

    id: str
    name: str
    input: dict[str, Any]


AnswerBlock = TextBlock | ThinkingBlock | ToolUseBlock


class OutputDetails(msgspec.Struct, frozen=True, kw_only=True):
    """thinking_tokens: those of the answer's thoughts, with the marks around them."""

    thinking_tokens: int


class ContextManagement(msgspec.Struct, frozen=True, kw_only=True):
    """What of a conversation was left out: nothing ever is."""

    applied_edits: list[Any] = []


class MessageUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts. The prompt has input_tokens + cache_read_input_tokens.

    cache_read_input_tokens: prompt tokens whose keys and values were still there.
    cache_creation_input_tokens: always 0: keeping a prompt is not asked for, and costs nothing.
    """

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: OutputDetails | UnsetType = UNSET


StopReason = Literal[
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"
]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, or the first event of a stream: then nothing has been said, nor has it ended.

    stop_sequence: the one that ended the answer. context_management: for who asked for some.
    """

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[AnswerBlock]
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: MessageUsage
    context_management: ContextManagement | UnsetType = UNSET


class MessageStart(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="message_start"
):
    """Begins a stream."""

    message: Message


class Ping(_Typed, frozen=True, kw_only=True, tag="ping"):
    """Says nothing."""


class BlockStart(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="content_block_start"
):
    """Begins a block, which is empty."""

    index: int
    content_block: AnswerBlock


class BlockPiece(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a block: the one field that its type names."""

    type: Literal["text_delta", "thinking_delta", "signature_delta", "input_json_delta"]
    text: str | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    partial_json: str | UnsetType = UNSET


class BlockDelta(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="content_block_delta"
):
    """Adds to the block number `index`."""

    index: int
    delta: BlockPiece


class BlockStop(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="content_block_stop"
):
    """Ends a block."""

    index: int


class MessageEnd(msgspec.Struct, frozen=True, kw_only=True):
    """Why the answer ended."""

    stop_reason: StopReason
    stop_sequence: str | None = None


class MessageDelta(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="message_delta"
):
    """Comes after the last block. usage: of the whole answer."""

    delta: MessageEnd
    usage: MessageUsage
    context_management: ContextManagement | UnsetType = UNSET


class MessageStop(_Typed, frozen=True, kw_only=True, tag="message_stop"):
    """Ends a stream."""


MessageEvent = (
    MessageStart | Ping | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop
)
MESSAGE_EVENTS = get_args(MessageEvent)


class AnthropicErrorDetail(msgspec.Struct, frozen=True):
    """message names the field at fault, if one is."""

    type: str
    message: str


class AnthropicError(msgspec.Struct, frozen=True, kw_only=True):
    """Anthropic's error object, in an answer or as an event of a stream."""

    type: Literal["error"] = "error"
    error: AnthropicErrorDetail
    request_id: str | None = None


class TokenCount(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of the prompt that a request would have."""

    input_tokens: int


class AnthropicModel(msgspec.Struct, frozen=True, kw_only=True):
    """One name that requests may use. max_input_tokens: prompt and answer together."""

    type: Literal["model"] = "model"
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"] = "active"
    max_input_tokens: int
    max_tokens: int


class AnthropicModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Every name: there are never more pages."""

    data: list[AnthropicModel]
    has_more: bool = False
    first_id: str
    last_id: str
