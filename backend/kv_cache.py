"""The KV tensors of one rank, addressed by slot: block * block_size + offset."""

import math

import numpy as np
import torch
from torch import Tensor

from backend.config import ModelConfig
from backend.shard import Shard


class KVCache:
    """Keys and values of all layers for this rank's KV heads.

    data: [layers, 2, blocks, block_size, kv_heads, head_dim], zero at first: attention gathers
    places it then hides, and a hidden NaN would still be one.
    """

    def __init__(
        self,
        config: ModelConfig,
        shard: Shard,
        *,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        shape = (config.num_layers, 2, num_blocks, block_size, shard.num_kv_heads, config.head_dim)
        self.data = _zeros(shape, dtype, device)

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (keys, values), each [blocks, block_size, kv_heads, head_dim]."""
        return self.data[index, 0], self.data[index, 1]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # calloc: pages that no sequence has touched take no memory. torch.zeros touches them all.
    raw = np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)
    return torch.from_numpy(raw).view(dtype).view(shape)
