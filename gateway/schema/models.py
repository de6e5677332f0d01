"""What GET /v1/models answers."""

import msgspec

from gateway.sampling_defaults import SamplingDefaults


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One name that requests may use.

    max_model_len: prompt and completion, tokens; what the KV cache holds if that is less.
    default_sampling_params: what a request has where it does not say; OpenAI's for the rest.
    """

    id: str
    object: str = "model"
    created: int
    owned_by: str = "unisono"
    max_model_len: int
    default_sampling_params: SamplingDefaults


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Every name that requests may use."""

    object: str = "list"
    data: list[ModelCard]
