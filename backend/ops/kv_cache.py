"""The KV tensors of one rank, addressed by slot: block * block_size + offset."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from backend.config.cache_groups import CacheGroup, block_size_of
from backend.config.cache_shapes import KVShape, kv_owners, kv_shapes
from backend.config.model_config import ModelConfig
from backend.ops.state_cache import StateCache
from backend.ops.zeros import zeros
from backend.placement.sharding import Shard

# What a key or value of 8 bits has beside its numbers: their scale, a float.
SCALE_BYTES = 4


class KVCache:
    """Keys and values of all layers for this rank's KV heads.

    data: [places, blocks, numbers]; a block's places lie together. A layer has, in all blocks of
    its cache group, numbers of one place that are [2, kv_heads, block_size, head_dim], with int8,
    or fp8 as uint8, which our own ops alone have, [.., head_dim + SCALE_BYTES]; layers of several
    groups share a place, in different blocks. Where all layers keep alike, each of a group has a
    place of its own; where they do not, there is one place, in which those of a group lie one after
    the other. A layer that shares another's keys and values has that one's. A head's part of a
    block is one piece, so that what is gathered for a sequence lies head by head, as products want
    it; the order within the piece is the ops' own. Attention reads places it then hides, and a
    hidden NaN would still be one: a block is cleared before its first place is written, unless all
    of them are, and so shows nobody what another has left. states: of the layers that keep any.
    """

    def __init__(
        self,
        config: ModelConfig,
        shard: Shard,
        *,
        groups: Sequence[CacheGroup],
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        num_slots: int = 0,
    ) -> None:
        """num_slots: of states, which some layers keep; see StateCache."""
        self.states = StateCache(config, shard, num_slots, device)
        self.num_groups = len(groups)
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._owners = kv_owners(config)
        self._shapes = _blocks_of_layers(config, shard, block_size, dtype)
        sizes = [math.prod(shape) for shape in self._shapes]
        own = [[layer for layer in g.layers if layer in shard.stage.layers] for g in groups]
        self._groups = {layer: g for g, layers in enumerate(own) for layer in layers}
        # Of each layer: its place, and its first number there.
        self._starts: dict[int, tuple[int, int]] = {}
        width = block_size_of(groups, sizes)
        if len(alike := {sizes[layer] for layer in self._groups}) == 1:
            [width] = alike
        for layers in own:
            before = 0
            for layer in layers:
                self._starts[layer] = divmod(before, width)
                before += sizes[layer]
        num_places = 1 + max((place for place, _ in self._starts.values()), default=-1)
        # Memory comes in huge pages: were layers apart, a first block would take one for each.
        self.data = zeros((num_blocks, num_places, width), dtype, device).transpose(0, 1)
        self._layers = [
            self._view(owner) if owner in self._starts else None for owner in self._owners
        ]

    def layer(self, index: int) -> Tensor:
        """Return a layer's keys and values, [blocks, 2, kv_heads, block_size, head_dim], or, where
        they are compressed, its rows, [blocks, 1, 1, block_size, width].

        Of all blocks, which may lie apart; it owns those that its group's tables name.
        """
        layer = self._layers[index]
        assert layer is not None, "a layer that keeps no keys has none"
        return layer

    def _view(self, owner: int) -> Tensor:
        place, start = self._starts[owner]
        shape = self._shapes[owner]
        part = self.data[place, :, start : start + math.prod(shape)]
        return part.view(self.num_blocks, *shape)

    def group_of(self, index: int) -> int:
        """Return whose block tables a layer's blocks are in."""
        return self._groups[self._owners[index]]

    def clear(self, blocks: Tensor) -> None:
        """Zero these blocks, [b]."""
        self.data.index_fill_(1, blocks, 0)


def _blocks_of_layers(
    config: ModelConfig, shard: Shard, block_size: int, dtype: torch.dtype
) -> list[tuple[int, ...]]:
    """Return what each layer has in a block, of this rank's heads; no numbers where it shares, or
    is another stage's."""
    scale = SCALE_BYTES if dtype in (torch.int8, torch.uint8) else 0
    return [
        _block(shape, shard, block_size, scale) if shape and index in shard.stage.layers else (0,)
        for index, shape in enumerate(kv_shapes(config))
    ]


def _block(shape: KVShape, shard: Shard, block_size: int, scale: int) -> tuple[int, ...]:
    if shape.is_latent:
        return (1, 1, block_size, shape.head_dim)
    num_kv_heads = shard.heads_of(shape.num_kv_heads).num_kv_heads
    return (2, num_kv_heads, block_size, shape.head_dim + scale)
