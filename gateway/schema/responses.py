"""POST /v1/responses as types: what a request may say. Answers are in responses_answer.py.

What its fields mean is said in gateway/dialects/responses.py. What all requests for text share is
in sampling.py. Must not know templates, pools or HTTP.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from backend.wire.sampling import MaxTokens, NumLogprobs
from gateway.errors import invalid
from gateway.schema.hosted import check_hosted
from gateway.schema.messages import CallId
from gateway.schema.thinking import ReasoningEffort, ThinkingFields

# Without these, an answer has no log-probabilities and no thoughts that come back.
LOGPROBS = "message.output_text.logprobs"
ENCRYPTED_REASONING = "reasoning.encrypted_content"


class ItemPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an item. Only text is read: `input_text`, `output_text`, `refusal`, thoughts."""

    type: str
    text: str | None = None
    refusal: str | None = None


class InputItem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was said, called or answered before.

    type: `message`, where left out. content: of a message, or of thoughts. call_id: which call an
    output answers. arguments: of a function's call; input: of a custom tool's, any text. namespace:
    of the function, if it has one. summary, encrypted_content: of thoughts. tools: what a search
    found, or what there is from here on. execution: who searched. author, recipient: of a message
    between agents. reasoning, text: of a configuration_update, what is asked from here on.
    """

    type: str = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[ItemPart] | None = None
    name: str | None = None
    namespace: str | None = None
    call_id: CallId | None = None
    arguments: str | dict[str, Any] | None = None
    input: str | None = None
    output: str | list[ItemPart] | None = None
    summary: list[ItemPart] | None = None
    encrypted_content: str | None = None
    tools: "list[ResponsesTool] | None" = None
    execution: str | None = None
    author: str | None = None
    recipient: str | None = None
    reasoning: "Reasoning | None" = None
    text: "TextOptions | None" = None


class ResponsesTool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that the model may use: a function, a custom tool, a namespace, or a search.

    parameters: a JSON schema of a function's or a search's arguments. tools: a namespace's. format:
    of a custom tool's input; a grammar is not enforced. execution: who searches for tools; the
    client. defer_loading: the model is told of it when a search finds it. allowed_callers: the
    model itself must be among them.
    """

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    tools: list["ResponsesTool"] | None = None
    format: dict[str, Any] | None = None
    execution: str | None = None
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None


class ResponsesToolChoice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Makes the model call one function, or restricts it to some: mode and tools are for those."""

    type: str
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[ResponsesTool] | None = None


class Reasoning(msgspec.Struct, frozen=True, kw_only=True):
    """How long to think. summary: accepted; the thoughts themselves are answered, not a summary."""

    effort: ReasoningEffort | None = None
    summary: str | None = None
    generate_summary: str | None = None


class TextFormat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the text of an answer must match; schema, name and strict belong to json_schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextOptions(msgspec.Struct, frozen=True, kw_only=True):
    """verbosity: accepted, and changes nothing."""

    format: TextFormat | None = None
    verbosity: str | None = None


InputItems = Annotated[list[InputItem], Meta(min_length=1, max_length=16_384)]
ResponsesTools = Annotated[list[ResponsesTool], Meta(max_length=128)]


class ResponsesRequest(ThinkingFields, frozen=True, kw_only=True):
    """Body of POST /v1/responses.

    input: a user's message, or all items that were said, called and answered before.
    instructions: a system message in front. max_output_tokens: of the answer at most, thoughts
    included. tools: functions, custom tools, namespaces of both and a search that the client does.
    tool_choice: whether to call, and what.
    parallel_tool_calls: false keeps the first call. text: what the answer must match.
    reasoning: how long to think. include: what else to tell; log-probabilities need
    "message.output_text.logprobs", thoughts that are to come back "reasoning.encrypted_content".
    top_logprobs: alternatives beside each token. truncation: "disabled" only.
    chat_template_kwargs: variables of the model's template, such as enable_thinking.
    previous_response_id, conversation, prompt, background: refused; no answer is stored.
    max_tool_calls, client_metadata: accepted for clients' sake; they change nothing.
    """

    input: str | InputItems
    instructions: str | None = None
    max_output_tokens: MaxTokens | None = None
    tools: ResponsesTools | None = None
    tool_choice: Literal["none", "auto", "required"] | ResponsesToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    top_logprobs: NumLogprobs | None = None
    truncation: Literal["auto", "disabled"] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None
    background: bool | None = None

    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    max_tool_calls: int | None = None
    client_metadata: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None

    @property
    def prompt_field(self) -> str:
        """The field that the prompt comes from."""
        return "input"

    @property
    def max_tokens_field(self) -> str:
        """The field that the number of output tokens comes from."""
        return "max_output_tokens"

    @property
    def configuration(self) -> tuple[Reasoning | None, TextOptions | None]:
        """How to think and what to match: its own, or what its input changed last."""
        reasoning, text = self.reasoning, self.text
        for item in self.input if not isinstance(self.input, str) else ():
            if item.type == "configuration_update":
                reasoning = item.reasoning or reasoning
                text = item.text or text
        return reasoning, text

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives beside each token, None for no log-probabilities at all."""
        return (self.top_logprobs or 0) if LOGPROBS in (self.include or ()) else None

    def check(self, *, is_strict: bool) -> None:
        """Raise ApiError for what is not served, or contradicts itself; see check_sampling()."""
        for name in ("previous_response_id", "conversation", "prompt"):
            if getattr(self, name) is not None:
                message = (
                    f"'{name}' is not supported: no answer is stored here. Send all that was said "
                    "before in 'input'."
                )
                raise invalid(message, name, "unsupported_parameter")
        check_hosted(self.moderation, self.prompt_cache_options)
        if self.background:
            message = "'background' is not supported: no answer is stored here."
            raise invalid(message, "background", "unsupported_parameter")
        if self.truncation == "auto":
            message = "'truncation' must be \"disabled\": an input that is too long is refused."
            raise invalid(message, "truncation", "unsupported_parameter")
        for name, other in (
            ("max_tokens", "max_output_tokens"),
            ("response_format", "text.format"),
        ):
            if getattr(self, name) is not None:
                message = f"'{name}' is not a field of this endpoint; '{other}' is."
                raise invalid(message, name, "unsupported_parameter")
        if self.num_choices != 1:
            message = "Invalid 'n': an answer of this endpoint is one."
            raise invalid(message, "n", "unsupported_parameter")
        for name in ("prompt_logprobs", "return_token_ids"):
            if getattr(self, name):
                message = f"'{name}' is not supported by this endpoint."
                raise invalid(message, name, "unsupported_parameter")
        if self.top_logprobs and self.num_logprobs is None:
            message = f"'top_logprobs' may only be given together with \"{LOGPROBS}\" in 'include'."
            raise invalid(message, "top_logprobs")
        self.check_thinking()
        self.check_sampling(self.max_output_tokens)
