"""Token counts of an answer, as OpenAI has them."""

import msgspec
from msgspec import UNSET, UnsetType


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """cached_tokens: prompt tokens whose keys and values were still there from other requests."""

    cached_tokens: int


class CompletionTokensDetails(msgspec.Struct, frozen=True):
    """reasoning_tokens: output tokens that were thoughts, with the marks around them."""

    reasoning_tokens: int


class Usage(msgspec.Struct, frozen=True):
    """Token counts of a whole request; a prompt counts once however many choices it has.

    completion_tokens_details: of models that think.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET
