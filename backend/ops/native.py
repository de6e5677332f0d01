"""The ops in C, bf16 on CPUs; see backend/native for the kernels."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.native import kernels
from backend.ops.batch import Batch, Rotation

# Rows of an item, tokens x query heads of a KV head: what a core's caches hold of their sums.
MAX_ROWS = 96
MAX_DIM = 256
# Keys that one item runs over when it is one token's: longer contexts are shared out over threads.
SPLIT_KEYS = 1024
# Keys x tokens from which on a second thread pays for being woken.
PARALLEL_SIZE = 512

Ints = NDArray[np.int32]


@dataclass(slots=True)
class _Plan:
    """batch, items and merges are what the addresses in `args` point to."""

    batch: Batch
    items: Ints
    merges: Ints
    partials: Tensor
    args: tuple[int, ...]
    parallel: bool


class NativeOps:
    """See `Ops` for shapes. Every tensor is bf16 and contiguous."""

    name = "own AVX-512 kernels"

    @staticmethod
    def takes(head_dim: int, block_size: int, num_heads: int, num_kv_heads: int) -> bool:
        """Whether the kernels are here, and made for these sizes."""
        return (
            kernels is not None
            and head_dim % 32 == 0
            and head_dim <= MAX_DIM
            and block_size % 16 == 0
            and num_heads // num_kv_heads <= MAX_ROWS
        )

    def add_rms_norm(
        self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        out = torch.empty_like(x)
        if delta is None:
            sums, args = x, (x.data_ptr(), 0, weight.data_ptr(), 0)
        else:
            sums = torch.empty_like(x)
            args = (x.data_ptr(), delta.data_ptr(), weight.data_ptr(), sums.data_ptr())
        kernels.add_rms_norm(*args, out.data_ptr(), *x.shape, eps)
        return sums, out

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        tokens, width = gate_up.shape
        out = gate_up.new_empty(tokens, width // 2)
        kernels.silu_mul(gate_up.data_ptr(), out.data_ptr(), tokens, width // 2)
        return out

    def plan_attention(self, batch: Batch, cache: Tensor, num_heads: int) -> _Plan:
        _, _, num_kv_heads, block_size, dim = cache.shape
        items, merges = _share_out(batch, num_heads // num_kv_heads)
        partials = torch.empty(int(merges[:, 2].sum()), num_heads, dim + 2)
        args = (
            batch.block_tables.data_ptr(),
            batch.block_tables.shape[1],
            items.ctypes.data,
            len(items),
            merges.ctypes.data,
            len(merges),
            num_heads,
            num_kv_heads,
            dim,
            block_size,
            partials.data_ptr(),
        )
        work = int(((items[:, 5] - items[:, 4]) * items[:, 2]).sum())
        return _Plan(batch, items, merges, partials, args, work > PARALLEL_SIZE)

    def rotate_store(self, qkv: Tensor, rotation: Rotation, cache: Tensor, plan: _Plan) -> None:
        tokens, heads, dim = qkv.shape
        num_kv_heads, block_size = cache.shape[2:4]
        cos, sin = rotation
        kernels.rotate_store(
            qkv.data_ptr(),
            heads * dim,
            cos.data_ptr(),
            sin.data_ptr(),
            cache.data_ptr(),
            plan.batch.slot_mapping.data_ptr(),
            tokens,
            heads - 2 * num_kv_heads,
            num_kv_heads,
            dim,
            block_size,
        )

    def attention(self, q: Tensor, cache: Tensor, plan: _Plan) -> Tensor:
        """q: its tokens may lie apart."""
        out = torch.empty(q.shape, dtype=q.dtype)
        kernels.attention(
            q.data_ptr(),
            q.stride(0),
            cache.data_ptr(),
            *plan.args,
            out.data_ptr(),
            plan.parallel,
            q.shape[-1] ** -0.5,
        )
        return out


def _share_out(batch: Batch, group: int) -> tuple[Ints, Ints]:
    """Cut the step's attention into AttentionItems [n, 7] and AttentionMerges [m, 3]; attention.h.

    The longest first, so that no thread is left with one when the others are done.
    """
    tiles: list[tuple[int, ...]] = []
    tokens = max(1, MAX_ROWS // group)
    for s in range(batch.num_decodes, len(batch.context_lens)):
        start, end = batch.query_starts[s : s + 2]
        behind = batch.context_lens[s] - end
        for first in range(start, end, tokens):
            last = min(first + tokens, end)
            tiles.append((s, first, last - first, first + behind, 0, last + behind, -1))
    tiles.sort(key=lambda tile: -tile[2] * tile[5])
    decodes, merges = _share_out_decodes(batch)
    items = [np.array(tiles, np.int32).reshape(-1, 7), decodes]
    return np.concatenate(items), merges


def _share_out_decodes(batch: Batch) -> tuple[Ints, Ints]:
    """Those of sequences that run one token."""
    lens = np.array(batch.context_lens[: batch.num_decodes], np.int32)
    num_parts = -(-lens // SPLIT_KEYS)
    rows = np.repeat(np.arange(len(lens), dtype=np.int32), num_parts)
    parts = np.arange(len(rows), dtype=np.int32) - np.repeat(
        np.cumsum(num_parts) - num_parts, num_parts
    )
    split = num_parts > 1
    partials = np.where(split[rows], np.cumsum(split[rows]) - 1, -1)
    items = np.empty((len(rows), 7), np.int32)
    items[:, 0] = items[:, 1] = rows
    items[:, 2] = 1
    items[:, 3] = lens[rows] - 1
    items[:, 4] = parts * SPLIT_KEYS
    items[:, 5] = np.minimum(items[:, 4] + SPLIT_KEYS, lens[rows])
    items[:, 6] = partials
    merged = np.flatnonzero(split)
    counts = num_parts[merged]
    merges = np.stack([merged, np.cumsum(counts) - counts, counts], axis=1)
    return items, merges.astype(np.int32)
