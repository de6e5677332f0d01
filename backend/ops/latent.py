"""Attention over compressed rows (DeepSeek-AI 2024, multi-head latent attention), in stock torch.

A token keeps one row of W numbers, which is the key of all heads; its first numbers are the value,
too. Queries come multiplied by what would expand the keys, so nothing is expanded.
"""

import ctypes
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.ops.batch import Batch

# Tokens of a sequence that are computed at once where a token's bits may depend on its neighbours.
TILE = 64
# Products take so many keys or a multiple: oneDNN compiles for each new shape, which takes 2.6 ms
# where the product of 20 heads by 64 keys, 576 wide, in bf16 takes 0.2.
KEYS = 64


@dataclass(frozen=True, slots=True)
class RowNorm:
    """What becomes of a row before it is kept: its first numbers are normalised and multiplied by
    the weight, those behind them turn, as neighbours if they are interleaved."""

    weight: Tensor
    eps: float
    is_interleaved: bool

    def in_halves(self, x: Tensor) -> Tensor:
        """Return a copy of what turns, [T, n, R], as two halves."""
        if not self.is_interleaved:
            return x.clone(memory_format=torch.contiguous_format)
        return torch.cat((x[..., ::2], x[..., 1::2]), -1)


class LatentAttention:
    """The attention of one step over the rows of a layer, for layers of one cache group.

    tile: so many tokens are computed at once. With 1 the shape of every product follows from a
    token's position alone, and so do the bits of its result, in any batch and any chunk.
    """

    def __init__(self, batch: Batch, cache: Tensor, tile: int) -> None:
        """cache: of any layer, [blocks, 1, 1, block size, W]."""
        size = cache.shape[3]
        slots = batch.slot_mapping.long()
        self._blocks, self._places = slots // size, slots % size
        self._tile = tile
        # Without instructions for them torch multiplies bf16 one by one.
        is_slow = cache.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        self._dtype = torch.float32 if is_slow else cache.dtype
        self._sequences = []
        for s, context_len in enumerate(batch.context_lens):
            rows = slice(*batch.query_starts[s : s + 2])
            table = batch.block_tables[s, : -(-context_len // size)].long()
            self._sequences.append((rows, table, context_len))

    @property
    def calls(self) -> dict[str, ctypes.Structure]:
        """Of kernels in C, by their names: none."""
        return {}

    def store(self, rows: Tensor, cache: Tensor) -> None:
        """Write the step's rows, [T, W]."""
        cache[self._blocks, 0, 0, self._places] = rows

    def attend(self, queries: Tensor, cache: Tensor, value_dim: int, scale: float) -> Tensor:
        """softmax(scale q k) v, causal. queries: [T, H, W] -> [T, H, value_dim].

        scale: what products of queries and keys are multiplied by.
        """
        out = queries.new_empty(*queries.shape[:2], value_dim)
        for rows, table, context_len in self._sequences:
            # [n, 1, 1, block size, W] -> [places, W]; by an index it takes four times as long.
            keys = cache.index_select(0, table).view(-1, cache.shape[-1])
            keys = F.pad(keys, (0, 0, 0, -len(keys) % KEYS)).to(self._dtype)
            for start in range(rows.start, rows.stop, self._tile):
                part = slice(start, min(start + self._tile, rows.stop))
                end = context_len - (rows.stop - part.stop)
                read = keys[: -(-end // KEYS) * KEYS]
                out[part] = _attend(queries[part].to(read), read, end, value_dim, scale)
        return out


def _attend(queries: Tensor, keys: Tensor, end: int, value_dim: int, scale: float) -> Tensor:
    """Attend to the first `end` of keys [L, W], which the last of t tokens [t, H, W] sees.

    Returns [t, H, value_dim].
    """
    count, heads, _ = queries.shape
    scores = (queries.flatten(0, 1) @ keys.T).float().view(count, heads, -1) * scale
    places = torch.arange(len(keys), device=keys.device)
    hidden = places > places[end - count : end, None]
    scores.masked_fill_(hidden[:, None], -torch.inf)
    weights = scores.softmax(-1).to(keys.dtype)
    return (weights.flatten(0, 1) @ keys[:, :value_dim]).view(count, heads, value_dim)
