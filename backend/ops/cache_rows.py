"""Where keys and values lie in a layer's cache, [blocks, 2, Hkv, block size, D].

As torch's ops have it: place after place. Blocks may lie apart, with other layers' between them.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Slots(NamedTuple):
    """Where tokens lie: blocks [T], and places in them, [T]."""

    blocks: Tensor
    places: Tensor

    @classmethod
    def of(cls, slots: Tensor, cache: Tensor) -> "Slots":
        """Return where slots [T] are, in any layer's cache of that block size."""
        size = cache.shape[3]
        slots = slots.long()
        return cls(slots // size, slots % size)


def store(kv: Tensor, cache: Tensor, slots: Slots) -> None:
    """Write kv [T, 2 Hkv, D]."""
    cache[slots.blocks, :, :, slots.places] = kv.view(len(kv), 2, -1, kv.shape[-1])


def rows_of(cache: Tensor) -> Tensor:
    """Return a layer's cache seen as rows [.., block size * D], one a piece of a block and head.

    Where blocks lie no whole number of rows apart, rows begin more often and overlap.
    """
    blocks, _, _, size, dim = cache.shape
    width = size * dim
    step = _step(cache)
    count = ((blocks - 1) * cache.stride(0) + cache[0].numel() - width) // step + 1
    return cache.as_strided((count, width), (step, 1))


def block_rows(blocks: Tensor, cache: Tensor) -> Tensor:
    """Rows of a layer's cache, see rows_of(), of n sequences' keys, then values.

    blocks: [n, b] -> [2 * n * Hkv * b].
    """
    num_heads, width, step = cache.shape[2], cache.stride(2), _step(cache)
    first = blocks.long() * (cache.stride(0) // step)
    heads = torch.arange(2 * num_heads, device=blocks.device).view(2, 1, num_heads, 1)
    return (first[:, None] + heads * (width // step)).view(-1)


def _step(cache: Tensor) -> int:
    return math.gcd(cache.stride(0), cache.stride(2))
