"""Attention over compressed rows in C; see backend/native/latent_attention.h."""

import ctypes

import torch
from torch import Tensor

from backend.native import calls, kernels
from backend.ops.attention_items import PARALLEL_SIZE, most_rows, share_out
from backend.ops.batch import Batch, Rotation
from backend.ops.latent import LatentAttention, RowNorm

# What the kernel has room for: numbers of a row, and of its value.
MAX_DIM = 640
MAX_VALUE_DIM = 512


class NativeLatentAttention(LatentAttention):
    """Rows as PyTorch's plan has them: bf16, place after place, in blocks of 16 n.

    A token has the same bits in any chunk of its sequence and beside any others.
    """

    def __init__(self, batch: Batch, cache: Tensor, num_heads: int, value_dim: int) -> None:
        """For sizes that the kernel takes."""
        rows = most_rows(cache.shape[-1])
        items, merges, work = share_out(batch, max(1, rows // num_heads), 0)
        partials = torch.empty(int(merges["count"].sum()), num_heads, value_dim + 2)
        # What the calls point to.
        self._held = batch, items, merges, partials
        sizes: dict[str, int] = {
            "block_stride": cache.stride(0) * cache.dtype.itemsize,
            "num_heads": num_heads,
            "dim": cache.shape[-1],
            "value_dim": value_dim,
            "block_size": cache.shape[3],
        }
        self._store = calls.LatentStore(slot_mapping=batch.slot_mapping.data_ptr(), **sizes)
        self._attend = calls.LatentAttention(
            block_tables=batch.block_tables.data_ptr(),
            table_stride=batch.block_tables.shape[1],
            items=items.ctypes.data,
            num_items=len(items),
            merges=merges.ctypes.data,
            num_merges=len(merges),
            most_rows=rows,
            partials=partials.data_ptr(),
            parallel=work * num_heads > PARALLEL_SIZE,
            **sizes,
        )

    @property
    def calls(self) -> dict[str, ctypes.Structure]:
        return {"latent_store": self._store, "latent_attention": self._attend}

    @staticmethod
    def takes(width: int, value_dim: int, block_size: int) -> bool:
        """Whether the kernel is made for these sizes."""
        return (
            width % 2 == value_dim % 16 == block_size % 16 == 0
            and width <= MAX_DIM
            and value_dim <= MAX_VALUE_DIM
        )

    def store_turned(
        self,
        rows: Tensor,
        turning: Tensor,
        queries: Tensor,
        norm: RowNorm,
        rotation: Rotation,
        cache: Tensor,
    ) -> None:
        """See Ops.store_latent."""
        assert queries.is_contiguous() and turning.stride(2) == 1
        cos, sin = rotation
        call = self._store
        call.rows, call.stride = rows.data_ptr(), rows.stride(0)
        call.weight, call.eps = norm.weight.data_ptr(), norm.eps
        call.cos, call.sin = cos.data_ptr(), sin.data_ptr()
        call.is_interleaved = norm.is_interleaved
        call.cache = cache.data_ptr()
        call.tokens = len(rows)
        call.turning = turning.data_ptr()
        call.turning_stride, call.turning_step = turning.stride()[:2]
        call.queries = queries.data_ptr()
        kernels.latent_store(call)

    def attend(self, queries: Tensor, cache: Tensor, value_dim: int, scale: float) -> Tensor:
        assert queries.is_contiguous()
        out = queries.new_empty(*queries.shape[:2], value_dim)
        call = self._attend
        call.q = queries.data_ptr()
        call.cache = cache.data_ptr()
        call.out = out.data_ptr()
        call.scale = scale
        kernels.latent_attention(call)
        return out
