"""Anthropic's Messages as types: what a request may say.

Shapes and ranges; gateway/dialects/messages.py says what it means. Blocks of content are of one
type with every field: what belongs to which kind is checked there, too. Fields of blocks that say
how to cache or cite are accepted and change nothing.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from backend.wire.sampling import MaxTokens, Temperature, TopK, TopP
from gateway.errors import invalid, missing
from gateway.schema.sampling import CacheSalt, Priority, RequestId, StopString, Timeout
from gateway.schema.thinking import Thinking

ToolName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
BlockId = Annotated[str, Meta(min_length=1, max_length=256)]
StopSequences = Annotated[list[StopString], Meta(max_length=64)]


class ToolChange(msgspec.Struct, frozen=True, kw_only=True):
    """Which tool is added or removed: by its name, or as it is defined."""

    type: str
    name: str | None = None
    definition: "AnthropicTool | None" = None


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One block of a message's content.

    text: of a `text` block. thinking: of a `thinking` block, what the model thought. id, name,
    input: of a `tool_use` block, a call. tool_use_id, content, is_error: of a `tool_result` block,
    what came of a call. tool_name: of a `tool_reference` in a result, a tool that was deferred.
    tool: of a `tool_addition` or `tool_removal`. source, title, context: of a `document` or a
    `search_result`, whose content is text; content: of a `compaction`, too.
    """

    type: str
    text: str | None = None
    thinking: str | None = None
    id: BlockId | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: BlockId | None = None
    content: "str | list[Block] | None" = None
    is_error: bool | None = None
    tool_name: str | None = None
    tool: ToolChange | None = None
    source: str | dict[str, Any] | None = None
    title: str | None = None
    context: str | None = None


class TurnConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a message of the system says of the turn that follows."""

    effort: Annotated[str, Meta(max_length=64)] | None = None


class AnthropicMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message. Neighbours of one role are one turn; an assistant's, at the end, goes on.

    clear_at, output_config: of the system's only. `next_user_message` hides one that a message of
    the user follows.
    """

    role: Literal["user", "assistant", "system"]
    content: str | list[Block] | None = None
    clear_at: Literal["next_user_message", "never"] | None = None
    output_config: TurnConfig | None = None


class AnthropicTool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may call. input_schema: a JSON schema of its arguments.

    type: only `custom`; what Anthropic's own servers run is not to be had here. defer_loading: the
    model is told of it where a result refers to it, not before. input_examples: shown with the
    description. allowed_callers: the model itself must be among them.
    """

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    defer_loading: bool | None = None
    input_examples: list[Any] | None = None
    allowed_callers: list[str] | None = None


class AnthropicToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the model may (`auto`), must (`any`, or `tool` with its name) or must not call."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class OutputFormat(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer must match."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, frozen=True, kw_only=True):
    """effort: handed to the model's template, as `reasoning_effort` of a chat is.

    task_budget: refused; the model cannot see how much is left.
    """

    effort: Annotated[str, Meta(max_length=64)] | None = None
    format: OutputFormat | None = None
    task_budget: Any = None


class CountTokensRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /v1/messages/count_tokens: what a request for a message says of its prompt.

    thinking: by default what the model's template does by itself. chat_template_kwargs: as a chat
    has it. Fields from `cache_control` on are accepted for clients' sake and change nothing.
    """

    model: str
    messages: Annotated[list[AnthropicMessage], Meta(min_length=1, max_length=100_000)]
    system: str | list[Block] | None = None
    tools: Annotated[list[AnthropicTool], Meta(max_length=1024)] | None = None
    tool_choice: AnthropicToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    priority: Priority | None = None
    cache_salt: CacheSalt | None = None
    request_id: RequestId | None = None
    timeout: Timeout | None = None

    mcp_servers: list[Any] | None = None
    container: str | dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None
    betas: list[str] | None = None
    context_management: dict[str, Any] | None = None
    compaction: dict[str, Any] | None = None
    diagnostics: dict[str, Any] | None = None
    fallbacks: str | list[Any] | None = None
    fallback_credit_token: Any = None
    billing_policy: dict[str, Any] | None = None
    speed: str | None = None
    user_profile_id: str | None = None
    workspace_id: str | None = None

    @property
    def format(self) -> OutputFormat | None:
        """What the answer must match, under its newer or its older name."""
        config = self.output_config
        return self.output_format if config is None or config.format is None else config.format

    def check(self, *, is_strict: bool) -> None:
        """Raise ApiError for what is not to be had here."""
        for name in ("mcp_servers", "container"):
            if getattr(self, name):
                message = f"'{name}' is not supported: this server runs no tools itself."
                raise invalid(message, name, "unsupported_parameter")
        if self.output_config is not None and self.output_config.task_budget is not None:
            name = "output_config.task_budget"
            message = f"'{name}' is not supported: no budget is kept over several requests."
            raise invalid(message, name, "unsupported_parameter")
        for number, said in enumerate(self.messages):
            if said.content is None and (said.role != "system" or said.output_config is None):
                raise missing(f"messages[{number}].content", "messages")
        choice = self.tool_choice
        if choice is not None and choice.type in ("any", "tool") and not self.tools:
            message = "'tool_choice' may only be given together with 'tools'."
            raise invalid(message, "tool_choice")


class MessagesRequest(CountTokensRequest, frozen=True, kw_only=True):
    """Body of POST /v1/messages.

    max_tokens: of output at most, thoughts included; what fits, if that is less. thread: refused,
    no conversation is kept here; so is compaction, none is made shorter.
    """

    max_tokens: MaxTokens
    stream: bool | None = None
    stop_sequences: StopSequences | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None

    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    thread: dict[str, Any] | None = None

    def check(self, *, is_strict: bool) -> None:
        """Raise ApiError for what is not to be had here."""
        for name, why in (
            ("thread", "no conversation is kept here; send all that was said in 'messages'"),
            ("compaction", "no conversation is made shorter here"),
        ):
            if getattr(self, name):
                raise invalid(f"'{name}' is not supported: {why}.", name, "unsupported_parameter")
        super().check(is_strict=is_strict)
