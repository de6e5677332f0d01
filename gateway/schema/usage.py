"""Token counts of an answer, as OpenAI has them."""

import msgspec


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """cached_tokens: prompt tokens whose keys and values were still there from other requests."""

    cached_tokens: int


class Usage(msgspec.Struct, frozen=True):
    """Token counts of a whole request; a prompt counts once however many choices it has."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
