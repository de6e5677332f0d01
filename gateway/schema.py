"""The OpenAI API as types: what a request may say and what an answer looks like.

Ranges live on the fields and come from backend/wire/sampling.py, so a decoded request is in range;
what one field alone cannot say is in check(). Must not know tokenizers, pools or HTTP.
Called by the endpoints.
"""

import secrets
from typing import Annotated, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from backend.wire.sampling import (
    MaxTokens,
    MinP,
    SamplingParams,
    Seed,
    Temperature,
    TopK,
    TopP,
)
from gateway.errors import invalid

T = TypeVar("T")

DEFAULTS = SamplingParams()
# The wire carries 64-bit integers and no vocabulary is larger, so more means the same.
LARGEST_TOP_K = 2**31 - 1

NumChoices = Annotated[int, Meta(ge=1, le=128)]
# 256: text is held back while it could be the start of a stop string.
StopString = Annotated[str, Meta(min_length=1, max_length=256)]
StopStrings = Annotated[list[StopString], Meta(max_length=4)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]


class StreamOptions(msgspec.Struct, frozen=True):
    """include_obfuscation hides token lengths from eavesdroppers; we accept it and add nothing."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /v1/completions. Null means the default; unknown fields are ignored."""

    model: str
    prompt: str | list[str | int | list[int]]
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    n: NumChoices | None = None
    stop: StopString | StopStrings | None = None
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    echo: bool | None = None
    user: str | None = None
    ignore_eos: bool | None = None
    best_of: int | None = None
    suffix: str | None = None
    logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None

    @property
    def num_choices(self) -> int:
        """Choices per prompt."""
        return self.n or 1

    @property
    def max_output_tokens(self) -> int:
        """Output tokens per choice."""
        return _given(self.max_tokens, DEFAULTS.max_tokens)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Zero to four strings, none empty."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of token counts."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def check(self) -> None:
        """Raise ApiError for what no single field's type can refuse."""
        if self.stream_options is not None and not self.stream:
            message = "'stream_options' may only be given together with 'stream': true."
            raise invalid(message, "stream_options")
        harmless = {
            "best_of": self.best_of in (None, 1, self.num_choices),
            "suffix": not self.suffix,
            "logprobs": self.logprobs is None,
            "logit_bias": not self.logit_bias,
            "frequency_penalty": not self.frequency_penalty,
            "presence_penalty": not self.presence_penalty,
        }
        for name, is_harmless in harmless.items():
            if not is_harmless:
                raise invalid(f"'{name}' is not supported yet.", name, "unsupported_parameter")

    def prompts(self) -> list[str | list[int]]:
        """Return the prompts one by one, whichever of the four forms they came in.

        Raises ApiError for no prompt at all and for a list of several kinds.
        """
        if isinstance(self.prompt, str):
            return [self.prompt]
        kinds = set(map(type, self.prompt))
        if not kinds:
            raise invalid("Invalid 'prompt': the array is empty.", "prompt", "empty_array")
        if len(kinds) > 1:
            message = (
                "Invalid type for 'prompt': expected an array of strings, of token ids or of "
                "arrays of token ids, but got a mixture."
            )
            raise invalid(message, "prompt", "invalid_type")
        if kinds == {int}:
            return [cast(list[int], self.prompt)]
        return cast(list[str | list[int]], self.prompt)


def sampling_params(request: CompletionRequest) -> list[SamplingParams]:
    """Return the parameters of each choice of one prompt.

    A missing seed is drawn here, once per call: the same prompt twice in a request differs.
    """
    shared = SamplingParams(
        temperature=_given(request.temperature, DEFAULTS.temperature),
        top_p=_given(request.top_p, DEFAULTS.top_p),
        top_k=min(_given(request.top_k, DEFAULTS.top_k), LARGEST_TOP_K),
        min_p=_given(request.min_p, DEFAULTS.min_p),
        seed=_given(request.seed, secrets.randbits(63)),
        max_tokens=request.max_output_tokens,
        ignore_eos=bool(request.ignore_eos),
    )
    return [msgspec.structs.replace(shared, choice=choice) for choice in range(request.num_choices)]


def _given(value: T | None, default: T) -> T:
    return default if value is None else value


class CompletionChoice(msgspec.Struct, frozen=True):
    """One continuation, or in a stream the next piece of one."""

    text: str
    index: int
    logprobs: None = None
    finish_reason: str | None = None


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """cached_tokens: prompt tokens whose keys and values were still there from other requests."""

    cached_tokens: int


class Usage(msgspec.Struct, frozen=True):
    """Token counts of a whole request; a prompt counts once however many choices it has."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """A completion or a chunk of one: they have the same shape.

    usage is left out of a stream unless it was asked for, and is null in chunks before the last.
    """

    id: str
    object: str = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One name that requests may use. max_model_len: prompt + completion, tokens."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "unisono"
    max_model_len: int


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Every name that requests may use."""

    object: str = "list"
    data: list[ModelCard]
