"""Conversations as types: messages, tools, and what else decides the text of a prompt.

Shapes and sizes, and in check() what one field alone cannot say. Must not know templates or
tokens. Used by the requests that take messages (chat.py, tokenize.py).
"""

from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from gateway.errors import invalid, missing
from gateway.schema.template_options import fault_of_options
from gateway.schema.thinking import ThinkingMode

FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
MessageName = Annotated[str, Meta(min_length=1, max_length=64)]
CallId = Annotated[str, Meta(min_length=1, max_length=256)]


class ContentPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a message. Only text is read: `text` parts, and an assistant's `refusal` parts.

    Parts of the Responses API, input_text and output_text, are text, too.
    """

    type: str
    text: str | None = None
    refusal: str | None = None

    def check(self, where: str) -> None:
        """Raise ApiError for what is no text."""
        if self.type not in _TEXT_PARTS and self.type != "refusal":
            kind = _OTHER_PARTS.get(self.type, "no text")
            raise invalid(
                f"Invalid '{where}': this model reads text only, and the part is {kind} "
                f"(type '{self.type[:40]}').",
                where,
                "unsupported_content",
            )
        name = "refusal" if self.type == "refusal" else "text"
        if getattr(self, name) is None:
            raise missing(f"{where}.{name}")


_TEXT_PARTS = frozenset(("text", "input_text", "output_text"))
# What is sent to models that see and hear, under the names of OpenAI, Anthropic and vLLM.
_OTHER_PARTS = (
    dict.fromkeys(("image_url", "input_image", "image", "image_embeds", "image_pil"), "an image")
    | dict.fromkeys(("input_audio", "audio_url", "audio", "audio_embeds"), "audio")
    | dict.fromkeys(("video_url", "input_video", "video"), "a video")
    | dict.fromkeys(("file", "input_file", "document"), "a file")
)


class FunctionCall(msgspec.Struct, frozen=True):
    """What a model called. arguments: JSON, as the model wrote it."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a tool."""

    id: CallId
    type: Literal["function"] = "function"
    function: FunctionCall


class PastFunctionCall(msgspec.Struct, frozen=True, kw_only=True):
    """What an assistant called before. arguments: JSON of an object, or the object itself."""

    name: str
    arguments: str | dict[str, Any] | None = None


class PastToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call that an assistant made before, as answers have it; id and type may be missing."""

    id: CallId | None = None
    type: Literal["function"] | None = None
    function: PastFunctionCall


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a conversation.

    name: who speaks, for templates that show it. tool_calls: of an assistant; tool_call_id: which
    of them a tool's message answers. function_call: what came before tool_calls; a message of the
    role `function` answers it. reasoning_content, or reasoning as vLLM calls it: what an assistant
    thought before, for templates that show it again. images: where Ollama's clients put them; none
    can be read.
    """

    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart | str] | None = None
    name: MessageName | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[PastToolCall] | None = None
    function_call: PastFunctionCall | None = None
    tool_call_id: CallId | None = None
    images: Any = None

    def check(self, where: str) -> None:
        """Raise ApiError for a message that says nothing or belongs to nothing."""
        if self.images:
            raise invalid(
                f"Invalid '{where}.images': this model reads text only.",
                f"{where}.images",
                "unsupported_content",
            )
        for number, part in enumerate(self.content if isinstance(self.content, list) else []):
            if isinstance(part, ContentPart):
                part.check(f"{where}.content[{number}]")
        if self.content is None and not (self.role == "assistant" and self.has_other_content):
            raise missing(f"{where}.content", "messages")
        for name in ("tool_calls", "function_call"):
            if getattr(self, name) and self.role != "assistant":
                message = f"Invalid '{where}.{name}': only messages of an assistant have it."
                raise invalid(message, "messages")
        if self.role == "tool" and self.tool_call_id is None:
            raise missing(f"{where}.tool_call_id", "messages")

    @property
    def has_other_content(self) -> bool:
        """Whether it says something although it has no content."""
        calls = bool(self.tool_calls) or self.function_call is not None
        return calls or self.refusal is not None

    @property
    def text(self) -> str:
        """All content as one string."""
        if isinstance(self.content, list):
            return "".join(
                part if isinstance(part, str) else (part.text or "") + (part.refusal or "")
                for part in self.content
            )
        return self.refusal or "" if self.content is None else self.content


class FunctionDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may call. parameters: a JSON schema of its arguments."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the model may use; functions only."""

    type: Literal["function"] = "function"
    function: FunctionDefinition


class NamedFunction(msgspec.Struct, frozen=True):
    """The function that must be called."""

    name: str


class NamedToolChoice(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """Makes the model call one function."""

    function: NamedFunction


class AllowedTool(msgspec.Struct, frozen=True, kw_only=True):
    """One of the tools, by its name."""

    type: Literal["function"] = "function"
    function: NamedFunction


class AllowedTools(msgspec.Struct, frozen=True, kw_only=True):
    """mode: whether one of them must be called."""

    mode: Literal["auto", "required"] = "auto"
    tools: Annotated[list[AllowedTool], Meta(min_length=1, max_length=128)]


class AllowedToolsChoice(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="allowed_tools"
):
    """Lets the model call some of the tools that it is told of."""

    allowed_tools: AllowedTools

    @property
    def names(self) -> list[str]:
        """Those that may be called."""
        return [tool.function.name for tool in self.allowed_tools.tools]


Messages = Annotated[list[ChatMessage], Meta(min_length=1, max_length=16_384)]
Tools = Annotated[list[Tool], Meta(max_length=128)]
ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice | AllowedToolsChoice
Documents = Annotated[list[dict[str, Any]], Meta(max_length=1024)]


class ConversationFields(Protocol):
    """The fields that decide the text of a conversation, in every request that has them.

    add_generation_prompt: end with what begins an assistant's message; on by default.
    continue_final_message: end inside the last message, so that the model goes on with it.
    chat_template_kwargs: variables of the model's template. chat_template: the name of one of the
    model's templates; those of others are not run. reasoning_effort: a variable, too, and whether
    to think at all unless thinking_mode says so. max_thought_tokens: of what is thought.
    """

    @property
    def messages(self) -> list[ChatMessage]: ...
    @property
    def tools(self) -> list[Tool] | None: ...
    @property
    def documents(self) -> list[dict[str, Any]] | None: ...
    @property
    def add_generation_prompt(self) -> bool | None: ...
    @property
    def continue_final_message(self) -> bool | None: ...
    @property
    def chat_template_kwargs(self) -> dict[str, Any] | None: ...
    @property
    def chat_template(self) -> str | None: ...
    @property
    def reasoning_effort(self) -> str | None: ...
    @property
    def thinking_mode(self) -> ThinkingMode | None: ...
    @property
    def max_thought_tokens(self) -> int | None: ...


class PlainConversation(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that decide the text of a conversation, and nothing else."""

    messages: list[ChatMessage]
    tools: Tools | None = None
    documents: Documents | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    chat_template: str | None = None
    reasoning_effort: str | None = None
    thinking_mode: ThinkingMode | None = None
    max_thought_tokens: int | None = None


def check_conversation(fields: ConversationFields) -> None:
    """Raise ApiError for what no template should be asked to render."""
    for number, message in enumerate(fields.messages):
        message.check(f"messages[{number}]")
    if fault := fault_of_options(fields.chat_template_kwargs or {}):
        raise invalid(f"Invalid 'chat_template_kwargs'{fault}.", "chat_template_kwargs")
    if not fields.continue_final_message:
        return
    if fields.add_generation_prompt:
        message_text = (
            "'continue_final_message' and 'add_generation_prompt' cannot both be true: the model "
            "either goes on with the last message or begins one."
        )
        raise invalid(message_text, "continue_final_message")
    if not fields.messages[-1].text:
        message_text = "'continue_final_message' needs a last message with content to go on with."
        raise invalid(message_text, "continue_final_message")
