"""The KV tensors of one rank, addressed by slot: block * block_size + offset."""

from collections.abc import Sequence

import torch
from torch import Tensor

from backend.config.cache_groups import CacheGroup, layers_per_block
from backend.config.model_config import ModelConfig
from backend.ops.state_cache import StateCache
from backend.ops.zeros import zeros
from backend.placement.sharding import Shard

# What a key or value of 8 bits has beside its numbers: their scale, a float.
SCALE_BYTES = 4


class KVCache:
    """Keys and values of all layers for this rank's KV heads.

    data: [places, blocks, 2, kv_heads, block_size, head_dim], with int8, which the native ops alone
    have, [.., head_dim + SCALE_BYTES]. A layer has one place in all blocks of its cache group;
    layers of several groups share a place, in different blocks. A head's part of a block is one
    piece, so that what is gathered for a sequence lies head by head, as products want it; the order
    within the piece is the ops' own. Attention reads places it then hides, and a hidden NaN would
    still be one: a block is cleared before its first place is written, unless all of them are, and
    so shows nobody what another has left. states: of the layers that keep any.
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
        width = config.head_dim + (SCALE_BYTES if dtype == torch.int8 else 0)
        block = (2, shard.num_kv_heads, block_size, width)
        self.data = zeros((layers_per_block(groups), num_blocks, *block), dtype, device)
        self._groups = {layer: g for g, group in enumerate(groups) for layer in group.layers}
        self._places = {layer: n for group in groups for n, layer in enumerate(group.layers)}

    def layer(self, index: int) -> Tensor:
        """Return a layer's keys and values, [blocks, 2, kv_heads, block_size, head_dim].

        Of all blocks; it owns those that its group's tables name.
        """
        return self.data[self._places[index]]

    def group_of(self, index: int) -> int:
        """Return whose block tables a layer's blocks are in."""
        return self._groups[index]

    def clear(self, blocks: Tensor) -> None:
        """Zero these blocks, [b]."""
        self.data.index_fill_(1, blocks, 0)
