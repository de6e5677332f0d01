"""Ollama's API as types: what its requests say and what its answers look like.

Shapes and ranges; gateway/dialects/ollama.py says what they mean. Times are RFC 3339, durations
nanoseconds.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from backend.wire.sampling import (
    MinP,
    NumLogprobs,
    Penalty,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
)
from gateway.errors import invalid, missing
from gateway.schema.messages import CallId, Tools
from gateway.schema.sampling import CacheSalt, Priority, RequestId, StopString, Timeout


class OllamaFunctionCall(msgspec.Struct, frozen=True, kw_only=True):
    """What was called. arguments: an object. index: of the call in its message."""

    name: str
    arguments: dict[str, Any] = {}
    index: int | UnsetType = UNSET


class OllamaToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a tool; older clients know no id."""

    function: OllamaFunctionCall
    id: CallId | UnsetType = UNSET


class OllamaMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message. tool_name, tool_call_id: of a tool's message, which call it answers."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[OllamaToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: CallId | None = None


class OllamaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are drawn and when the answer ends; other options change nothing here.

    num_predict: tokens of output at most; below 1 what fits. seed: a negative one is none.
    """

    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    seed: Annotated[int, Meta(le=2**63 - 1)] | None = None
    num_predict: Annotated[int, Meta(le=2**31 - 1)] | None = None
    stop: StopString | Annotated[list[StopString], Meta(max_length=64)] | None = None
    repeat_penalty: RepetitionPenalty | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None


class ShowRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /api/show. verbose: accepted, and changes nothing. name: what older clients call
    the model."""

    model: str = ""
    name: str | None = None
    verbose: bool | None = None
    priority: Priority | None = None
    cache_salt: CacheSalt | None = None
    request_id: RequestId | None = None
    timeout: Timeout | None = None

    def __post_init__(self) -> None:
        """Take the older name of the field."""
        if not self.model and self.name:
            msgspec.structs.force_setattr(self, "model", self.name)

    def check(self, *, is_strict: bool) -> None:
        """Raise ApiError where no model is named."""
        if not self.model:
            raise missing("model")


class OllamaTextRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What both requests for text say.

    stream: an answer comes line by line unless this is false. format: `json`, or a JSON schema that
    the answer must match. options: how tokens are drawn and when the answer ends. think: whether
    the model thinks first, or how much (`low`, `medium`, `high`), where its template has a switch.
    keep_alive: accepted; the model always stays. logprobs: of each token of what is said;
    top_logprobs: so many likely ones beside it.
    """

    model: str
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: OllamaOptions | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    keep_alive: float | str | None = None
    logprobs: bool | None = None
    top_logprobs: NumLogprobs | None = None
    priority: Priority | None = None
    cache_salt: CacheSalt | None = None
    request_id: RequestId | None = None
    timeout: Timeout | None = None

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives beside each token; None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def is_streamed(self) -> bool:
        """Whether the answer comes line by line."""
        return self.stream is not False

    def check(self, *, is_strict: bool) -> None:
        """Raise ApiError for what is not to be had here."""
        if isinstance(self.format, str) and self.format not in ("", "json"):
            raise invalid("Invalid 'format': expected \"json\" or a JSON schema.", "format")
        if self.top_logprobs and not self.logprobs:
            raise invalid("'top_logprobs' needs 'logprobs': true.", "top_logprobs")


class OllamaChatRequest(OllamaTextRequest, frozen=True, kw_only=True):
    """Body of POST /api/chat. Without messages, it is answered at once: the model is loaded."""

    messages: Annotated[list[OllamaMessage], Meta(max_length=16_384)] | None = None
    tools: Tools | None = None

    @property
    def is_load(self) -> bool:
        """Whether nothing is asked but that the model be there."""
        return not self.messages

    def check(self, *, is_strict: bool) -> None:
        """Raise ApiError for what is not to be had here."""
        super().check(is_strict=is_strict)
        for number, message in enumerate(self.messages or []):
            check_images(f"messages[{number}].images", message.images)


class OllamaGenerateRequest(OllamaTextRequest, frozen=True, kw_only=True):
    """Body of POST /api/generate. Without a prompt, it is answered at once: the model is loaded.

    prompt: one text. raw: it is not put through the model's template. suffix: what comes after the
    answer, for models trained to fill in. template, context, images: refused.
    """

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    raw: bool | None = None
    template: str | None = None
    context: list[int] | None = None
    images: list[Any] | None = None

    @property
    def is_load(self) -> bool:
        """Whether nothing is asked but that the model be there."""
        return not self.prompt

    def check(self, *, is_strict: bool) -> None:
        """Raise ApiError for what is not to be had here."""
        super().check(is_strict=is_strict)
        check_images("images", self.images)
        if self.template:
            message = "'template' is not supported: the model's own is used; 'raw': true uses none."
            raise invalid(message, "template", "unsupported_parameter")
        if self.context:
            message = "'context' is not supported: send the conversation to /api/chat."
            raise invalid(message, "context", "unsupported_parameter")
        if self.system and (self.raw or self.suffix):
            other = "'raw': true" if self.raw else "'suffix'"
            raise invalid(f"'system' cannot be given together with {other}.", "system")


def check_images(where: str, images: list[Any] | None) -> None:
    """Raise ApiError if there are any."""
    if images:
        message = f"Invalid '{where}': this model reads text only."
        raise invalid(message, where, "unsupported_content")


class OllamaTopLogprob(msgspec.Struct, frozen=True, kw_only=True):
    """One token that might have come."""

    token: str
    logprob: float
    bytes: list[int] | None


class OllamaLogprob(OllamaTopLogprob, frozen=True, kw_only=True):
    """One token of what was said."""

    top_logprobs: list[OllamaTopLogprob] | UnsetType = UNSET


class OllamaEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What every line has, and what only the last one has: why and how the answer ended."""

    model: str
    created_at: str
    done: bool = False
    logprobs: list[OllamaLogprob] | UnsetType = UNSET
    done_reason: str | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET


class OllamaAnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What the model said, or the next piece of it; calls come whole."""

    role: Literal["assistant"] = "assistant"
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[OllamaToolCall] | UnsetType = UNSET


class OllamaChatAnswer(OllamaEnd, frozen=True, kw_only=True):
    """An answer, or a line of one."""

    message: OllamaAnswerMessage


class OllamaGenerateAnswer(OllamaEnd, frozen=True, kw_only=True):
    """An answer, or a line of one."""

    response: str
    thinking: str | UnsetType = UNSET


class OllamaDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What the model's files say; empty where they do not."""

    parent_model: str = ""
    format: str = ""
    family: str = ""
    families: list[str] = []
    parameter_size: str = ""
    quantization_level: str = ""


class OllamaModel(msgspec.Struct, frozen=True, kw_only=True):
    """One name of the model. digest: changes when the weights do. size: bytes of its files."""

    name: str
    model: str
    modified_at: str
    digest: str
    size: int = 0
    details: OllamaDetails = OllamaDetails()


class OllamaModels(msgspec.Struct, frozen=True):
    """What GET /api/tags answers."""

    models: list[OllamaModel]


class OllamaRunning(OllamaModel, frozen=True, kw_only=True):
    """One name of the model that is loaded. expires_at: far away, it stays."""

    expires_at: str
    size_vram: int = 0
    context_length: int


class OllamaRunningModels(msgspec.Struct, frozen=True):
    """What GET /api/ps answers."""

    models: list[OllamaRunning]


class OllamaShown(msgspec.Struct, frozen=True, kw_only=True):
    """What POST /api/show answers. template: Jinja. model_info: by the names that GGUF has."""

    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    details: OllamaDetails = OllamaDetails()
    model_info: dict[str, str | int]
    capabilities: list[str]
    modified_at: str


class OllamaError(msgspec.Struct, frozen=True):
    """A refusal."""

    error: str
