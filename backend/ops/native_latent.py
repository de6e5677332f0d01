"""Attention over compressed rows in C; see backend/native/latent_attention.h."""

from dataclasses import dataclass

import torch
from torch import Tensor

from backend.native import calls, kernels
from backend.ops.attention_items import PARALLEL_SIZE, Records, most_rows, share_out
from backend.ops.batch import Batch
from backend.ops.latent import LatentAttention

# What the kernel has room for: numbers of a row, and of its value.
MAX_DIM = 640
MAX_VALUE_DIM = 512


@dataclass(slots=True)
class _Call:
    """A layer's call, and what it points to."""

    items: Records
    merges: Records
    partials: Tensor
    call: calls.LatentAttention


class NativeLatentAttention(LatentAttention):
    """As the one in PyTorch, whose rows these are: bf16, place after place, blocks of 16 n.

    A token has the same bits in any chunk of its sequence and beside any others. What the kernel is
    not made for is PyTorch's.
    """

    def __init__(self, batch: Batch, cache: Tensor) -> None:
        super().__init__(batch, cache, 1)
        self._batch = batch
        # By heads and numbers of a value: layers of one model have the same.
        self._calls: dict[tuple[int, int], _Call] = {}

    @staticmethod
    def takes(width: int, value_dim: int, block_size: int) -> bool:
        """Whether the kernel is made for these sizes."""
        return (
            width % 2 == value_dim % 16 == block_size % 16 == 0
            and width <= MAX_DIM
            and value_dim <= MAX_VALUE_DIM
        )

    def attend(self, queries: Tensor, cache: Tensor, value_dim: int, scale: float) -> Tensor:
        if not self.takes(cache.shape[-1], value_dim, cache.shape[3]):
            return super().attend(queries, cache, value_dim, scale)
        num_heads = queries.shape[1]
        planned = self._calls.get((num_heads, value_dim))
        if planned is None:
            planned = self._plan(num_heads, value_dim, cache)
            self._calls[num_heads, value_dim] = planned
        queries = queries.contiguous()
        out = queries.new_empty(*queries.shape[:2], value_dim)
        call = planned.call
        call.q = queries.data_ptr()
        call.cache = cache.data_ptr()
        call.out = out.data_ptr()
        call.scale = scale
        kernels.latent_attention(call)
        return out

    def _plan(self, num_heads: int, value_dim: int, cache: Tensor) -> _Call:
        rows = most_rows(cache.shape[-1])
        items, merges, work = share_out(self._batch, max(1, rows // num_heads), 0)
        partials = torch.empty(int(merges["count"].sum()), num_heads, value_dim + 2)
        call = calls.LatentAttention(
            block_stride=cache.stride(0) * cache.dtype.itemsize,
            block_tables=self._batch.block_tables.data_ptr(),
            table_stride=self._batch.block_tables.shape[1],
            items=items.ctypes.data,
            num_items=len(items),
            merges=merges.ctypes.data,
            num_merges=len(merges),
            num_heads=num_heads,
            most_rows=rows,
            dim=cache.shape[-1],
            value_dim=value_dim,
            block_size=cache.shape[3],
            partials=partials.data_ptr(),
            parallel=work * num_heads > PARALLEL_SIZE,
        )
        return _Call(items, merges, partials, call)
