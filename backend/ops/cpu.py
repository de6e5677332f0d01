"""The ops in stock torch, for CPUs (and, slower than kernels made for it, any other device).

Attention gathers the blocks of each sequence head by head. The query heads of one KV head are
folded into the query length, so that keys and values are never repeated. Sequences that run one
token are gathered together, in buckets of similar length, so that one long context does not pad
all others; several tokens of one sequence run in tiles, each over the keys up to its end.

Plain products beat torch's fused attention where there is more than a little to multiply. Measured
in bf16 on two cores of a Zen 5 server, us a layer for fused / plain, three KV heads of three:
1, 4, 16, 64 sequences of 224 tokens: 22 / 42, 55 / 55, 206 / 109, 820 / 318; prompts of 128, 256
and 512 tokens: 322 / 171, 1066 / 455, 3821 / 2586.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.ops import Batch

# From so many sequences of one token on, plain products are faster than fused attention.
MANY_DECODES = 8
# Scores of a tile of queries, all heads: what a cache holds next to keys and values.
TILE_SCORES = 1 << 20


@dataclass(slots=True)
class _Decodes:
    """n sequences of one token and at most b blocks each.

    rows: which of the step's tokens, [n]. pieces: [2 * n * Hkv * b], for `gather`.
    hidden: [n, 1, 1, b * size], whether a place is beyond its sequence.
    """

    rows: Tensor | slice
    pieces: Tensor
    hidden: Tensor


@dataclass(slots=True)
class _Chunk:
    """One sequence's several tokens, the last of which is its context's.

    pieces: [2 * Hkv * b], for `gather`. tiles: (rows of the chunk, hidden [t, 1, length]), where
    length is of the context up to the tile's end.
    """

    rows: slice
    pieces: Tensor
    tiles: list[tuple[slice, Tensor]]


@dataclass(slots=True)
class _Plan:
    """places: [T * 2 * Hkv], rows of a layer's cache where new keys and values go."""

    places: Tensor
    decodes: list[_Decodes]
    chunks: list[_Chunk]


class CpuOps:
    """See `Ops` for shapes."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, eps)

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up

    def plan_attention(self, batch: Batch, cache: Tensor) -> _Plan:
        return _Plan(
            places_of(batch.slots, cache), _plan_decodes(batch, cache), _plan_chunks(batch, cache)
        )

    def store_kv(self, kv: Tensor, cache: Tensor, plan: _Plan) -> None:
        store(kv, cache, plan.places)

    def attention(self, q: Tensor, cache: Tensor, plan: _Plan) -> Tensor:
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        for decodes in plan.decodes:
            _decode(q, cache, decodes, out)
        for chunk in plan.chunks:
            _extend(q, cache, chunk, out)
        return out


def places_of(slots: Tensor, cache: Tensor) -> Tensor:
    """Rows of a layer's cache, seen as [.., D], for the tokens at these slots -> [T * 2 Hkv]."""
    _, _, heads, size, _ = cache.shape
    slots = slots.long()
    first = slots // size * (2 * heads * size) + slots % size
    return (first[:, None] + torch.arange(2 * heads, device=slots.device) * size).view(-1)


def store(kv: Tensor, cache: Tensor, places: Tensor) -> None:
    """Write kv [T, 2 Hkv, D] at `places`."""
    dim = cache.shape[-1]
    cache.view(-1, dim).index_copy_(0, places, kv.reshape(-1, dim))


def pieces_of(blocks: Tensor, num_heads: int) -> Tensor:
    """What `gather` takes for n sequences: blocks [n, b] -> [2 * n * Hkv * b]."""
    first = blocks.long() * (2 * num_heads)
    heads = torch.arange(2 * num_heads, device=blocks.device).view(2, 1, num_heads, 1)
    return (first[:, None] + heads).view(-1)


def gather(cache: Tensor, pieces: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Collect keys and values of n sequences, each [n, Hkv, b * size, D]."""
    _, _, heads, size, dim = cache.shape
    gathered = cache.view(-1, size * dim).index_select(0, pieces)
    k, v = gathered.view(2, n, heads, -1, dim).unbind()
    return k, v


def _decode(q: Tensor, cache: Tensor, part: _Decodes, out: Tensor) -> None:
    n = len(part.hidden)
    k, v = gather(cache, part.pieces, n)
    query = q[part.rows].reshape(n, k.shape[1], -1, k.shape[-1])
    if n < MANY_DECODES:
        result = F.scaled_dot_product_attention(query, k, v, ~part.hidden)
    else:
        result = attend(query, k, v, part.hidden)
    out[part.rows] = result.view(n, -1, k.shape[-1])


def _extend(q: Tensor, cache: Tensor, part: _Chunk, out: Tensor) -> None:
    k, v = gather(cache, part.pieces, 1)
    heads, dim = k.shape[1], k.shape[-1]
    tokens = part.rows.stop - part.rows.start
    # [T, Hkv, group, D] -> [1, Hkv, T, group, D]
    query = q[part.rows].view(tokens, heads, -1, dim).transpose(0, 1)[None]
    target = out[part.rows].view(tokens, heads, -1, dim).transpose(0, 1)
    for rows, hidden in part.tiles:
        tile = query[:, :, rows]
        length = hidden.shape[-1]
        scores_of = tile.flatten(2, 3)  # [1, Hkv, t * group, D]
        hidden = hidden.expand(-1, tile.shape[3], -1).flatten(0, 1)
        result = attend(scores_of, k[:, :, :length], v[:, :, :length], hidden)
        target[:, rows] = result.view(tile.shape)[0]


def attend(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    """softmax(q k / sqrt(D)) v. q: [n, Hkv, t, D]; k, v: [n, Hkv, L, D]; hidden: [.., t, L]."""
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    scores.masked_fill_(hidden, -torch.inf)
    return torch.matmul(scores.softmax(-1), v)


def _plan_decodes(batch: Batch, cache: Tensor) -> list[_Decodes]:
    num_heads, block_size = cache.shape[2:4]
    buckets: dict[int, list[int]] = {}
    for row in range(batch.num_decodes):
        num_blocks = -(-batch.context_lens[row] // block_size)
        buckets.setdefault((num_blocks - 1).bit_length(), []).append(row)
    device = batch.block_tables.device
    parts = []
    for members in buckets.values():
        lens = [batch.context_lens[row] for row in members]
        width = -(-max(lens) // block_size)
        whole = len(buckets) == 1
        rows = slice(len(members)) if whole else torch.tensor(members, device=device)
        pieces = pieces_of(batch.block_tables[rows, :width], num_heads)
        places = torch.arange(width * block_size, device=device)
        hidden = places >= torch.tensor(lens, device=device)[:, None]
        parts.append(_Decodes(rows, pieces, hidden[:, None, None]))
    return parts


def _plan_chunks(batch: Batch, cache: Tensor) -> list[_Chunk]:
    num_heads, block_size = cache.shape[2:4]
    device = batch.block_tables.device
    parts = []
    for s in range(batch.num_decodes, len(batch.context_lens)):
        rows = slice(*batch.query_starts[s : s + 2])
        context_len = batch.context_lens[s]
        blocks = batch.block_tables[s : s + 1, : -(-context_len // block_size)]
        tiles = _tiles(rows.stop - rows.start, context_len, num_heads, device)
        parts.append(_Chunk(rows, pieces_of(blocks, num_heads), tiles))
    return parts


def _tiles(
    count: int, context_len: int, num_heads: int, device: torch.device
) -> list[tuple[slice, Tensor]]:
    """Cut a sequence's last `count` tokens; see _Chunk."""
    size = max(16, min(128, TILE_SCORES // (context_len * num_heads)))
    tiles = []
    for start in range(0, count, size):
        stop = min(start + size, count)
        end = context_len - (count - stop)
        places = torch.arange(end, device=device)
        hidden = places > torch.arange(end - (stop - start), end, device=device)[:, None]
        tiles.append((slice(start, stop), hidden[:, None]))
    return tiles
