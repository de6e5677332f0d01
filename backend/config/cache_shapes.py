"""What each layer of a model keeps in the KV cache. No torch, and no ranks' shares."""

from collections.abc import Sequence
from typing import NamedTuple

from backend.config.cache_groups import CacheGroup, staged_cache_groups
from backend.config.model_config import ModelConfig
from backend.config.spec import Attention


class KVShape(NamedTuple):
    """A layer's keys and values of a token: of each of its KV heads, head_dim numbers each.

    is_latent: there is one row instead, of head_dim numbers, which every rank keeps.
    """

    num_kv_heads: int
    head_dim: int
    is_latent: bool = False

    @property
    def num_numbers(self) -> int:
        """Numbers of a token, of all ranks."""
        return self.head_dim if self.is_latent else 2 * self.num_kv_heads * self.head_dim


def kv_shapes(config: ModelConfig) -> list[KVShape | None]:
    """Return what each layer keeps; None of one that keeps nothing of its own."""
    if config.sees_ahead:
        return [None] * config.num_layers
    return [
        _shape(config, layer.attention)
        if layer.attention and layer.attention.shares_kv_of is None
        else None
        for layer in config.spec.layers
    ]


def _shape(config: ModelConfig, attention: Attention) -> KVShape:
    if attention.latent:
        return KVShape(1, attention.latent.width, is_latent=True)
    return KVShape(config.num_kv_heads_of(attention), config.head_dim_of(attention))


def kv_owners(config: ModelConfig) -> list[int]:
    """Return whose keys and values each layer sees: its own index, or that of one before it."""
    shared = [
        layer.attention.shares_kv_of if layer.attention else None for layer in config.spec.layers
    ]
    return [index if owner is None else owner for index, owner in enumerate(shared)]


def groups_of(
    config: ModelConfig, max_model_len: int, cuts: Sequence[range] = ()
) -> tuple[CacheGroup, ...]:
    """Group a model's layers for sequences of max_model_len tokens at most.

    cuts: layers of each stage, where ranks do not have them all.
    """
    shapes = kv_shapes(config)
    windows = [
        layer.attention.window if layer.attention and shape else None
        for layer, shape in zip(config.spec.layers, shapes, strict=True)
    ]
    sizes = [shape.num_numbers if shape else 0 for shape in shapes]
    return staged_cache_groups(windows, max_model_len, sizes, cuts or [range(len(windows))])
