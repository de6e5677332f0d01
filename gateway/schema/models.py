"""What GET /v1/models answers."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from gateway.sampling_defaults import SamplingDefaults


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One name that requests may use.

    max_model_len, context_length: prompt and completion, tokens; what the KV cache holds if that is
    less. max_output_tokens: of an answer to the shortest prompt, for models that generate.
    capabilities: what requests may ask of it.
    task: what requests it answers: "generate", "embed" or "rerank".
    dimensions: of the vectors of a model that embeds.
    default_sampling_params: what a request has where it does not say; OpenAI's for the rest.
    """

    id: str
    object: str = "model"
    created: int
    owned_by: str = "unisono"
    max_model_len: int
    context_length: int
    max_output_tokens: int | UnsetType = UNSET
    capabilities: list[str]
    task: Literal["generate", "embed", "rerank"] = "generate"
    dimensions: int | UnsetType = UNSET
    default_sampling_params: SamplingDefaults


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Every name that requests may use."""

    object: str = "list"
    data: list[ModelCard]
