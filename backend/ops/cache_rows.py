"""Where keys and values lie in a layer's cache, [blocks, 2, Hkv, block size, D], seen as rows.

As torch's ops have it: place after place.
"""

import torch
from torch import Tensor


def slot_rows(slots: Tensor, cache: Tensor) -> Tensor:
    """Rows of a layer's cache, seen as [.., D], for the tokens at these slots -> [T * 2 Hkv]."""
    _, _, heads, size, _ = cache.shape
    slots = slots.long()
    first = slots // size * (2 * heads * size) + slots % size
    return (first[:, None] + torch.arange(2 * heads, device=slots.device) * size).view(-1)


def store(kv: Tensor, cache: Tensor, places: Tensor) -> None:
    """Write kv [T, 2 Hkv, D] at `places`."""
    dim = cache.shape[-1]
    cache.view(-1, dim).index_copy_(0, places, kv.reshape(-1, dim))


def block_rows(blocks: Tensor, num_heads: int) -> Tensor:
    """Rows of a layer's cache, seen as [.., block size * D], of n sequences' keys, then values.

    blocks: [n, b] -> [2 * n * Hkv * b].
    """
    first = blocks.long() * (2 * num_heads)
    heads = torch.arange(2 * num_heads, device=blocks.device).view(2, 1, num_heads, 1)
    return (first[:, None] + heads).view(-1)
