"""Body and answer of POST /v1/completions.

What one field alone cannot say is in check(). Must not know tokenizers, pools or HTTP.
"""

from typing import Annotated, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from backend.wire.sampling import NumLogprobs, SamplingParams
from gateway.errors import invalid
from gateway.schema.sampling import OPENAI_MAX_LOGPROBS, SamplingFields, given
from gateway.schema.usage import Usage

DEFAULT_MAX_TOKENS = SamplingParams().max_tokens

NumCandidates = Annotated[int, Meta(ge=0, le=20)]


class CompletionRequest(SamplingFields, frozen=True, kw_only=True):
    """Body of POST /v1/completions.

    best_of: so many are generated and the n with the highest mean log-probability answered; 0 is
    the same as none. suffix: what comes after the completion, for models trained to fill in.
    logprobs: alternatives beside each token, 0 for the token alone.
    """

    prompt: str | list[str | int | list[int]]
    suffix: str | None = None
    echo: bool | None = None
    logprobs: NumLogprobs | None = None
    best_of: NumCandidates | None = None

    @property
    def num_candidates(self) -> int:
        """Sequences per prompt, of which num_choices are answered."""
        return max(self.num_choices, self.best_of or 0)

    @property
    def max_output_tokens(self) -> int:
        """Output tokens per choice."""
        return given(self.max_tokens, DEFAULT_MAX_TOKENS)

    @property
    def num_prompt_logprobs(self) -> int | None:
        """Alternatives beside each prompt token; None if the prompt gets no log-probabilities."""
        wanted = [self.prompt_logprobs, self.logprobs if self.echo else None]
        return max((number for number in wanted if number is not None), default=None)

    def check(self, *, is_strict: bool) -> None:
        """Raise ApiError for fields that contradict each other; see SamplingFields.check()."""
        if self.best_of and self.best_of < self.num_choices:
            raise invalid(
                f"Invalid 'best_of': {self.best_of} is less than n = {self.num_choices}; "
                "the choices are taken from the best ones.",
                "best_of",
            )
        if self.stream and self.num_candidates > self.num_choices:
            message = "'best_of' cannot be given together with 'stream': true."
            raise invalid(message, "best_of")
        if is_strict and given(self.logprobs, 0) > OPENAI_MAX_LOGPROBS:
            raise invalid(
                f"Invalid 'logprobs': integer above maximum value. Expected a value <= "
                f"{OPENAI_MAX_LOGPROBS}, but got {self.logprobs} instead.",
                "logprobs",
                "integer_above_max_value",
            )
        self.check_sampling(self.max_output_tokens)

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


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """Four parallel arrays, one entry a token; in a stream those of this chunk.

    tokens: a token that is part of a character is written as its bytes, `bytes:\\xe2\\x80`.
    token_logprobs, top_logprobs: null for the first token of an echoed prompt.
    text_offset: characters of prompt (if echoed) and answer before the token.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class PromptLogprob(msgspec.Struct, frozen=True):
    """rank: 1 is the most likely token of its position."""

    logprob: float
    rank: int
    decoded_token: str


class CompletionChoice(msgspec.Struct, frozen=True):
    """One continuation, or in a stream the next piece of one.

    stop_reason: the stop string or stop token that ended it, once it has ended.
    prompt_logprobs: a prompt token each, by token id; null for the first.
    token_ids, prompt_token_ids: if asked for; a stream has the prompt's in a choice's first chunk.
    """

    text: str
    index: int
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | UnsetType | None = UNSET
    prompt_logprobs: list[dict[int, PromptLogprob] | None] | UnsetType = UNSET
    token_ids: list[int] | UnsetType = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET


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
