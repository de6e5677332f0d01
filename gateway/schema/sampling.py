"""The fields that every request for text has, whatever its endpoint: OpenAI's, then vLLM's.

Ranges live on the fields and come from backend/wire/sampling.py, so a decoded request is in range;
caps on lists and strings are here too. Fields that contradict each other are found by check().
gateway/requests/parameters.py turns this into SamplingParams: that takes the model's vocabulary.
"""

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from backend.wire.sampling import (
    Bias,
    MaxTokens,
    MinP,
    MinTokens,
    NgramSize,
    NumLogprobs,
    Penalty,
    RepetitionPenalty,
    Seed,
    Temperature,
    TopK,
    TopP,
)
from gateway.errors import invalid
from gateway.schema.guided import GuidedFields
from gateway.schema.structured import ResponseFormat

T = TypeVar("T")

# OpenAI's own limit on `logprobs` of a completion; NumLogprobs, like vLLM's default, is wider.
OPENAI_MAX_LOGPROBS = 5

NumChoices = Annotated[int, Meta(ge=1, le=128)]
# 256: text is held back while it could be the start of a stop string.
StopString = Annotated[str, Meta(min_length=1, max_length=256)]
StopStrings = Annotated[list[StopString], Meta(max_length=4)]
# Both travel to every rank once a choice, and a step's rules walk through them.
StopTokenIds = Annotated[list[int], Meta(max_length=128)]
AllowedTokenIds = Annotated[list[int], Meta(min_length=1, max_length=4096)]
LogitBias = Annotated[dict[str, Bias], Meta(max_length=300)]
BadWord = Annotated[str, Meta(min_length=1, max_length=256)]
BadWords = Annotated[list[BadWord], Meta(max_length=128)]
NumPromptTokens = Annotated[int, Meta(ge=-1)]
Priority = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
CacheSalt = Annotated[str, Meta(min_length=1, max_length=1024)]
RequestId = Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,64}$")]
Timeout = Annotated[float, Meta(gt=0, le=86_400)]


class StreamOptions(msgspec.Struct, frozen=True):
    """include_obfuscation hides token lengths from eavesdroppers; we accept it and add nothing.

    continuous_usage_stats: with include_usage, every chunk tells the counts so far.
    """

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class SamplingFields(GuidedFields, frozen=True, kw_only=True):
    """What a completion and a chat answer are asked for in the same words. Null is the default.

    min_tokens: before it, no end, no stop token and no stop string ends the answer.
    spaces_between_special_tokens: accepted; no decoder here puts any, asked or not.
    truncate_prompt_tokens: keep the last so many; -1 keeps what leaves room for the answer.
    bad_words: texts that are never completed, at the beginning of a word or inside one.
    priority: lower runs earlier. cache_salt: prompts share cached prefixes only under equal salts.
    timeout: seconds for the whole request.
    """

    model: str
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: NumChoices | None = None
    stop: StopString | StopStrings | None = None
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    user: str | None = None
    response_format: ResponseFormat | None = None

    top_k: TopK | None = None
    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    no_repeat_ngram_size: NgramSize | None = None
    min_tokens: MinTokens | None = None
    ignore_eos: bool | None = None
    stop_token_ids: StopTokenIds | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: NumPromptTokens | None = None
    allowed_token_ids: AllowedTokenIds | None = None
    bad_words: BadWords | None = None
    prompt_logprobs: NumLogprobs | None = None
    return_token_ids: bool | None = None
    priority: Priority | None = None
    cache_salt: CacheSalt | None = None
    request_id: RequestId | None = None
    timeout: Timeout | None = None

    @property
    def num_choices(self) -> int:
        """Choices in the answer, per prompt."""
        return self.n or 1

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Zero to four strings, none empty."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of token counts."""
        options = self.stream_options
        return bool(self.stream and options is not None and options.include_usage)

    @property
    def has_continuous_usage(self) -> bool:
        """Whether every chunk of a stream has the token counts so far."""
        options = self.stream_options
        return self.include_usage and options is not None and bool(options.continuous_usage_stats)

    @property
    def skips_special_tokens(self) -> bool:
        """Whether special tokens are no text."""
        return given(self.skip_special_tokens, True)

    @property
    def max_output_tokens(self) -> int | None:
        """Output tokens per choice; None if the end of the context decides."""
        return self.max_tokens

    @property
    def prompt_field(self) -> str:
        """The field that the prompt comes from."""
        return "prompt"

    @property
    def max_tokens_field(self) -> str:
        """The field that max_output_tokens comes from."""
        return "max_tokens"

    def check(self, *, is_strict: bool) -> None:
        """Raise ApiError for fields that contradict each other, or lack the one they belong to.

        is_strict: OpenAI's limits hold where ours are wider.
        """
        self.check_sampling(self.max_output_tokens)

    def check_sampling(self, max_tokens: int | None) -> None:
        """Do what check() does, for the fields that all requests have."""
        self.check_guided()
        if max_tokens is not None and (self.min_tokens or 0) > max_tokens:
            raise invalid(
                f"Invalid 'min_tokens': {self.min_tokens} is more than the {max_tokens} tokens "
                f"that '{self.max_tokens_field}' allows.",
                "min_tokens",
            )
        if self.truncate_prompt_tokens == 0:
            message = "Invalid 'truncate_prompt_tokens': at least one token of a prompt must stay."
            raise invalid(message, "truncate_prompt_tokens")
        if self.stream and self.prompt_logprobs is not None:
            message = "'prompt_logprobs' cannot be given together with 'stream': true."
            raise invalid(message, "prompt_logprobs")
        check_beside("stream_options", self.stream_options, "'stream': true", self.stream)


def check_beside(name: str, value: object, companion: str, is_there: object) -> None:
    """Raise ApiError for a field that is given without the one that it says something about.

    companion: that field, in words. is_there: true if the request has it.
    """
    if value is not None and not is_there:
        raise invalid(f"'{name}' may only be given together with {companion}.", name)


def given(value: T | None, default: T) -> T:
    """Return the value of a field, or its default where it was left out or null."""
    return default if value is None else value
