"""Anthropic's Messages as types: what an answer looks like, whole and as the events of a stream."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType


class TextBlock(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says."""

    type: Literal["text"] = "text"
    text: str


class ThinkingBlock(msgspec.Struct, frozen=True, kw_only=True):
    """What the model thought. signature: means nothing, but some clients drop thoughts without."""

    type: Literal["thinking"] = "thinking"
    thinking: str
    signature: str


class ToolUseBlock(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a function."""

    type: Literal["tool_use"] = "tool_use"
    id: str
    name: str
    input: dict[str, Any]


AnswerBlock = TextBlock | ThinkingBlock | ToolUseBlock


class MessageUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts. The prompt has input_tokens + cache_read_input_tokens.

    cache_read_input_tokens: prompt tokens whose keys and values were still there.
    cache_creation_input_tokens: always 0: keeping a prompt is not asked for, and costs nothing.
    """

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int
    output_tokens: int


StopReason = Literal[
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"
]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, or the first event of a stream: then nothing has been said, nor has it ended.

    stop_sequence: the one that ended the answer.
    """

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[AnswerBlock]
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: MessageUsage


class MessageStart(msgspec.Struct, frozen=True, kw_only=True):
    """Begins a stream."""

    type: Literal["message_start"] = "message_start"
    message: Message


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """Says nothing."""

    type: Literal["ping"] = "ping"


class BlockStart(msgspec.Struct, frozen=True, kw_only=True):
    """Begins a block, which is empty."""

    type: Literal["content_block_start"] = "content_block_start"
    index: int
    content_block: AnswerBlock


class BlockPiece(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a block: the one field that its type names."""

    type: Literal["text_delta", "thinking_delta", "signature_delta", "input_json_delta"]
    text: str | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    partial_json: str | UnsetType = UNSET


class BlockDelta(msgspec.Struct, frozen=True, kw_only=True):
    """Adds to the block number `index`."""

    type: Literal["content_block_delta"] = "content_block_delta"
    index: int
    delta: BlockPiece


class BlockStop(msgspec.Struct, frozen=True, kw_only=True):
    """Ends a block."""

    type: Literal["content_block_stop"] = "content_block_stop"
    index: int


class MessageEnd(msgspec.Struct, frozen=True, kw_only=True):
    """Why the answer ended."""

    stop_reason: StopReason
    stop_sequence: str | None = None


class MessageDelta(msgspec.Struct, frozen=True, kw_only=True):
    """Comes after the last block. usage: of the whole answer."""

    type: Literal["message_delta"] = "message_delta"
    delta: MessageEnd
    usage: MessageUsage


class MessageStop(msgspec.Struct, frozen=True, kw_only=True):
    """Ends a stream."""

    type: Literal["message_stop"] = "message_stop"


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
