"""What GET /v1/models answers."""

import msgspec


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One name that requests may use.

    max_model_len: prompt and completion, tokens; what the KV cache holds if that is less.
    """

    id: str
    object: str = "model"
    created: int
    owned_by: str = "unisono"
    max_model_len: int


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Every name that requests may use."""

    object: str = "list"
    data: list[ModelCard]
