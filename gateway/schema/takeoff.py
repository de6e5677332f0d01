"""Takeoff's API as types: what its requests say and what its answers look like.

Shapes and ranges; gateway/dialects/takeoff.py says what they mean. Its clients send every field,
null where nothing is wanted.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from backend.wire.sampling import (
    MaxTokens,
    MinTokens,
    NgramSize,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
)
from gateway.errors import invalid, missing
from gateway.group_names import GroupName
from gateway.schema.messages import ChatMessage
from gateway.schema.sampling import CacheSalt, Priority, RequestId, Timeout
from gateway.schema.structured import Regex

# What Takeoff's documentation gives where a request says nothing.
DEFAULT_MAX_NEW_TOKENS = 128

PromptMaxTokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Texts = Annotated[list[str], Meta(min_length=1)]
TokenStrings = Annotated[list[str | int], Meta(max_length=2**21)]
Conversations = Annotated[
    list[Annotated[list[ChatMessage], Meta(min_length=1, max_length=16_384)]],
    Meta(min_length=1, max_length=128),
]


class TakeoffFields(msgspec.Struct, frozen=True, kw_only=True):
    """What all of Takeoff's requests may say. Which model answers they leave to the group.

    consumer_group: the name of the groups that may answer; null or "" for those that answer where
    none is named.
    """

    consumer_group: Annotated[str, Meta(max_length=256)] | None = None
    priority: Priority | None = None
    cache_salt: CacheSalt | None = None
    request_id: RequestId | None = None
    timeout: Timeout | None = None

    @property
    def model(self) -> str:
        """What OpenAI's requests call so: nothing."""
        return ""

    def check(self, *, is_strict: bool) -> None:
        """Raise ApiError for what one field alone cannot say."""


class TakeoffRequest(TakeoffFields, frozen=True, kw_only=True):
    """Body of POST /generate and /generate_stream.

    text: one prompt, or several that are answered in their order. sampling_topk: draw from the k
    likeliest tokens; by default 1. sampling_topp, sampling_temperature, repetition_penalty: by
    default 1. no_repeat_ngram_size: by default 0. max_new_tokens: tokens of output at most; by
    default 128. min_new_tokens: before it no end ends the answer. prompt_max_tokens: keep the last
    so many tokens of a prompt. regex_string: what the answer must match; of both, it counts.
    json_schema: what the answer must match, an object or the text of one. return_metadata: with
    token counts. constrained_decoding_backend: accepted, one library does it here.
    use_chat_template: a prompt is a user's message, put through the model's template.
    lora_id: refused.
    """

    text: str | Texts
    sampling_temperature: Temperature | None = None
    sampling_topp: TopP | None = None
    sampling_topk: TopK | None = None
    repetition_penalty: RepetitionPenalty | None = None
    no_repeat_ngram_size: NgramSize | None = None
    max_new_tokens: MaxTokens | None = None
    min_new_tokens: MinTokens | None = None
    regex_string: Regex | None = None
    json_schema: dict[str, Any] | str | None = None
    constrained_decoding_backend: Literal["lmfe", "outlines"] | None = None
    prompt_max_tokens: PromptMaxTokens | None = None
    return_metadata: bool | None = None
    use_chat_template: bool | None = None
    lora_id: str | None = None

    @property
    def texts(self) -> list[str]:
        """The prompts."""
        return [self.text] if isinstance(self.text, str) else self.text

    @property
    def max_tokens(self) -> int:
        """Tokens of output at most, per prompt."""
        wanted = self.max_new_tokens
        return DEFAULT_MAX_NEW_TOKENS if wanted is None else wanted

    def check(self, *, is_strict: bool) -> None:
        """Raise ApiError for what is not to be had here."""
        if self.lora_id:
            message = f"There is no adapter '{self.lora_id}': this server has none."
            raise invalid(message, "lora_id", "unsupported_parameter")
        if (self.min_new_tokens or 0) > self.max_tokens:
            raise invalid(
                f"Invalid 'min_new_tokens': {self.min_new_tokens} is more than the "
                f"{self.max_tokens} tokens that 'max_new_tokens' allows.",
                "min_new_tokens",
            )


class TakeoffMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts of all prompts and all answers of a request."""

    prompt_tokens: int
    generated_tokens: int


class TakeoffText(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: one text, or as many as there were prompts."""

    text: str | list[str]
    metadata: TakeoffMetadata | UnsetType = UNSET


class TakeoffEmbedRequest(TakeoffFields, frozen=True, kw_only=True):
    """Body of POST /embed. text: one, or several."""

    text: str | Texts


class TakeoffVectors(msgspec.Struct, frozen=True):
    """What POST /embed answers. result: a vector for one text; vectors for several."""

    result: list[float | list[float]]


class TakeoffClassifyRequest(TakeoffFields, frozen=True, kw_only=True):
    """Body of POST /classify. text: one, or several; a list of two is a pair for a cross-encoder.

    Without such groups, those that answer where none is named are meant by `classify`, which
    Takeoff's client sends by default.
    """

    text: str | Annotated[list[str | Texts], Meta(min_length=1)]


class TakeoffScores(msgspec.Struct, frozen=True):
    """What POST /classify answers. result: for each text the scores of the model's labels."""

    result: list[list[float]]


class TakeoffTokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /tokenize/{reader}.

    text: what is cut into tokens. use_chat_template: it is a user's message, put through the
    model's template.
    """

    text: str
    use_chat_template: bool | None = None


class TakeoffTokens(msgspec.Struct, frozen=True):
    """The tokens of a text as the vocabulary has them."""

    tokens: list[str]
    tokens_count: int


class TakeoffDetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /detokenize/{reader}. tokens: as the vocabulary has them, or their ids.

    skip_special_tokens: by default true.
    """

    tokens: TokenStrings
    skip_special_tokens: bool | None = None


class TakeoffPlainText(msgspec.Struct, frozen=True):
    """What POST /detokenize/{reader} answers."""

    text: str


class TakeoffTemplateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /chat_template/{reader}. inputs: conversations.

    add_generation_prompt: end each with what begins an assistant's message; by default false.
    """

    inputs: Conversations
    add_generation_prompt: bool | None = None


class TakeoffMessages(msgspec.Struct, frozen=True):
    """The text of each conversation, as the model's template has it."""

    messages: list[str]


class TakeoffReader(msgspec.Struct, frozen=True, kw_only=True):
    """A group, which Takeoff calls a reader. reader_id: its number.

    state, tensor_parallel, max_batch_size, device: where the management API tells of it.
    """

    reader_id: str
    consumer_group: str
    model_name: str
    model_type: str
    max_sequence_length: int
    ready: bool
    running: int
    waiting: int
    state: str | UnsetType = UNSET
    tensor_parallel: int | UnsetType = UNSET
    max_batch_size: int | UnsetType = UNSET
    device: str | UnsetType = UNSET
    pids: list[int] | UnsetType = UNSET


class TakeoffNewReader(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /reader: a group like the first, but for what is said here.

    model_name: a name of the served model. device: what the readers that there are compute on.
    consumer_group: what the group is called; by default as the first is. tensor_parallel: ranks.
    max_batch_size: sequences a step. max_sequence_length: at most what the server takes, which
    holds for all readers. cuda_visible_devices: a device for each rank.
    The others of Takeoff's are accepted and change nothing.
    """

    model_name: str
    device: Literal["cpu", "cuda", "api"] | None = None
    consumer_group: GroupName | None = None
    tensor_parallel: Annotated[int, Meta(ge=1, le=64)] | None = None
    max_batch_size: Annotated[int, Meta(ge=1, le=4096)] | None = None
    max_sequence_length: Annotated[int, Meta(ge=1)] | None = None
    cuda_visible_devices: str | None = None
    redis_host: str | None = None
    backend: str | None = None
    log_level: str | None = None
    access_token: str | None = None
    batch_duration_millis: int | None = None
    quant_type: str | None = None
    nvlink_unavailable: int | None = None
    disable_static: int | None = None
    disable_cuda_graph: int | None = None
    cuda_graph_cache_capacity: int | None = None
    disable_paged_attention: int | None = None
    page_cache_size: str | None = None


class TakeoffStatus(msgspec.Struct, frozen=True):
    """What GET /status answers. live_readers: by id, those that take work."""

    live_readers: dict[str, TakeoffReader]


class TakeoffError(msgspec.Struct, frozen=True):
    """A refusal."""

    error: str


def check_texts(texts: list[str]) -> None:
    """Raise ApiError for an empty text."""
    for number, text in enumerate(texts):
        if not text:
            raise missing("text" if len(texts) == 1 else f"text[{number}]", "text")
