"""The ops in stock torch, for CPUs (and, slower than kernels made for it, any other device).

Attention gathers the blocks of each sequence and calls torch's fused attention, with the query
heads of one KV head folded into the query length, so that keys and values are never repeated.
Sequences that run one token are gathered together, in buckets of similar length, so that one long
context does not pad all others.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.ops import Batch


@dataclass(slots=True)
class _Decodes:
    """n sequences of one token and at most b blocks each. rows: [n]; blocks: [n * b];
    mask: [n, 1, 1, b * size], 0 or -inf."""

    rows: Tensor
    blocks: Tensor
    mask: Tensor


@dataclass(slots=True)
class _Chunk:
    """One sequence's several tokens. mask: [group, tokens, L], 0 or -inf, folded when used."""

    rows: slice
    blocks: Tensor
    context_len: int
    mask: Tensor


@dataclass(slots=True)
class _Plan:
    decodes: list[_Decodes]
    chunks: list[_Chunk]


class CpuOps:
    """See `Ops` for shapes."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, eps)

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up

    def store_kv(self, k: Tensor, v: Tensor, slots: Tensor, cache: tuple[Tensor, Tensor]) -> None:
        for new, old in zip((k, v), cache, strict=True):
            old.view(-1, *old.shape[2:]).index_copy_(0, slots.long(), new)

    def plan_attention(self, batch: Batch, block_size: int, dtype: torch.dtype) -> _Plan:
        return _Plan(
            _plan_decodes(batch, block_size, dtype), _plan_chunks(batch, block_size, dtype)
        )

    def attention(self, q: Tensor, cache: tuple[Tensor, Tensor], plan: _Plan) -> Tensor:
        out = torch.empty_like(q)
        for decodes in plan.decodes:
            self._decode(q, cache, decodes, out)
        for chunk in plan.chunks:
            self._extend(q, cache, chunk, out)
        return out

    def _decode(self, q: Tensor, cache: tuple[Tensor, Tensor], part: _Decodes, out: Tensor) -> None:
        n = len(part.rows)
        heads, dim = cache[0].shape[2:]
        # [n * b, size, Hkv, D] -> [n, Hkv, L, D]
        k, v = (
            x.index_select(0, part.blocks).view(n, -1, heads, dim).transpose(1, 2) for x in cache
        )
        query = q.index_select(0, part.rows).view(n, heads, -1, dim)
        result = F.scaled_dot_product_attention(query, k, v, part.mask)
        out.index_copy_(0, part.rows, result.reshape(n, -1, dim))

    def _extend(self, q: Tensor, cache: tuple[Tensor, Tensor], part: _Chunk, out: Tensor) -> None:
        heads, dim = cache[0].shape[2:]
        # [b, size, Hkv, D] -> [1, Hkv, L, D]
        k, v = (
            x.index_select(0, part.blocks).flatten(0, 1)[: part.context_len].transpose(0, 1)[None]
            for x in cache
        )
        tokens = part.rows.stop - part.rows.start
        # [T, Hkv, group, D] -> [1, Hkv, group * T, D]
        query = q[part.rows].view(tokens, heads, -1, dim).permute(1, 2, 0, 3)
        group = query.shape[1]
        mask = part.mask.expand(group, -1, -1).reshape(group * tokens, -1)
        result = F.scaled_dot_product_attention(query.reshape(1, heads, -1, dim), k, v, mask)
        result = result.view(heads, group, tokens, dim).permute(2, 0, 1, 3)
        out[part.rows] = result.reshape(tokens, -1, dim)


def _plan_decodes(batch: Batch, block_size: int, dtype: torch.dtype) -> list[_Decodes]:
    buckets: dict[int, list[int]] = {}
    for row in range(batch.num_decodes):
        num_blocks = -(-batch.context_lens[row] // block_size)
        buckets.setdefault((num_blocks - 1).bit_length(), []).append(row)
    device = batch.block_tables.device
    parts = []
    for members in buckets.values():
        lens = [batch.context_lens[row] for row in members]
        width = -(-max(lens) // block_size)
        rows = torch.tensor(members, device=device)
        blocks = batch.block_tables.index_select(0, rows)[:, :width].reshape(-1)
        places = torch.arange(width * block_size, device=device)
        hidden = places >= torch.tensor(lens, device=device)[:, None]
        mask = torch.zeros(hidden.shape, dtype=dtype, device=device)
        mask.masked_fill_(hidden, -torch.inf)
        parts.append(_Decodes(rows, blocks, mask[:, None, None]))
    return parts


def _plan_chunks(batch: Batch, block_size: int, dtype: torch.dtype) -> list[_Chunk]:
    device = batch.block_tables.device
    parts = []
    for s in range(batch.num_decodes, len(batch.context_lens)):
        rows = slice(*batch.query_starts[s : s + 2])
        context_len = batch.context_lens[s]
        tokens = rows.stop - rows.start
        places = torch.arange(context_len, device=device)
        hidden = places > torch.arange(context_len - tokens, context_len, device=device)[:, None]
        mask = torch.zeros(hidden.shape, dtype=dtype, device=device)
        mask.masked_fill_(hidden, -torch.inf)
        blocks = batch.block_tables[s, : -(-context_len // block_size)]
        parts.append(_Chunk(rows, blocks, context_len, mask[None]))
    return parts
