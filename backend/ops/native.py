"""The ops in C, bf16 on CPUs at any level of instructions; see backend/native for the kernels."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.config.spec import Activation
from backend.native import calls, kernels
from backend.ops.batch import FULL, AttentionSpec, Batch, Rotation
from backend.ops.kv_cache import SCALE_BYTES
from backend.ops.native_conv import NativeConvOps
from backend.ops.native_delta import NativeDeltaOps
from backend.ops.native_ssm import NativeSsmOps
from backend.ops.tokenwise import TokenwiseOps

# An item has so many rows, tokens x query heads of a KV head, and so many sums, rows x head size,
# at most: a core's caches hold them.
MAX_ROWS = 96
MAX_SUMS = 96 * 256
MAX_DIM = 512
# Contexts are attended to in pieces of so many keys, in blocks of so many; see native/attention.h.
# Where a sequence runs one token its pieces are shared out over threads.
SPLIT_KEYS = 1024
BLOCK_KEYS = 64
# From so many keys x tokens on a second thread pays for being woken.
PARALLEL_SIZE = 512

ITEM = calls.record("AttentionItem")
MERGE = calls.record("AttentionMerge")

Ints = NDArray[np.int32]
Records = NDArray[np.void]


@dataclass(slots=True)
class AttentionPlan:
    """The two calls of a layer. They point to batch, items, merges and partials."""

    batch: Batch
    items: Records
    merges: Records
    partials: Tensor
    rotate_store: calls.RotateStore
    attention: calls.Attention

    @property
    def calls(self) -> dict[str, ctypes.Structure]:
        """Both, by their kernels."""
        return {"rotate_store": self.rotate_store, "attention": self.attention}


class NativeOps(TokenwiseOps, NativeConvOps, NativeDeltaOps, NativeSsmOps):
    """See `Ops` for shapes. Every tensor is bf16 and contiguous.

    A cache of int8, [blocks, 2, Hkv, block size, D + SCALE_BYTES], has keys and values in 8 bits,
    with one scale a token and head.
    """

    reads_8_bits = True
    reads_fp8 = False

    def __init__(self) -> None:
        self.name = f"own {kernels.level()} kernels"
        self._add_rms_norm = calls.AddRmsNorm()
        self._gate_mul = calls.GateMul()

    @staticmethod
    def takes(head_dim: int, block_size: int, num_heads: int, num_kv_heads: int) -> bool:
        """Whether the kernels are here, and made for these sizes."""
        return (
            kernels is not None
            and head_dim % 16 == 0
            and head_dim <= MAX_DIM
            and block_size % 16 == 0
            and num_heads // num_kv_heads <= _most_rows(head_dim)
        )

    def add_rms_norm(
        self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        out = torch.empty_like(x)
        call = self._add_rms_norm
        if delta is None:
            sums = x
            call.delta = call.sum = None
        else:
            sums = torch.empty_like(x)
            call.delta = delta.data_ptr()
            call.sum = sums.data_ptr()
        call.x = x.data_ptr()
        call.weight = weight.data_ptr()
        call.out = out.data_ptr()
        call.tokens, call.width = x.shape
        call.eps = eps
        kernels.add_rms_norm(call)
        return sums, out

    def head_norm(self, heads: Tensor, weight: Tensor | None, eps: float) -> None:
        tokens, num_heads, dim = heads.shape
        kernels.head_norm(
            calls.HeadNorm(
                heads=heads.data_ptr(),
                stride=heads.stride(0),
                weight=None if weight is None else weight.data_ptr(),
                tokens=tokens,
                num_heads=num_heads,
                dim=dim,
                eps=eps,
            )
        )

    def gate_mul(self, gate_up: Tensor, activation: Activation) -> Tensor:
        match activation:
            case "silu":
                return self.silu_mul(gate_up)
            case "gelu_tanh":
                return self._gate(gate_up, kernels.gelu_mul)
            case _:
                return super().gate_mul(gate_up, activation)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        return self._gate(gate_up, kernels.silu_mul)

    def _gate(self, gate_up: Tensor, kernel: Callable[[calls.GateMul], None]) -> Tensor:
        tokens, width = gate_up.shape
        out = gate_up.new_empty(tokens, width // 2)
        call = self._gate_mul
        call.gate_up = gate_up.data_ptr()
        call.out = out.data_ptr()
        call.tokens = tokens
        call.width = width // 2
        kernel(call)
        return out

    def plan_attention(
        self, batch: Batch, cache: Tensor, num_heads: int, spec: AttentionSpec = FULL
    ) -> AttentionPlan:
        """Layers of another spec need another plan."""
        _, _, num_kv_heads, block_size, dim = cache.shape
        kv_bits = 8 * cache.dtype.itemsize
        dim -= SCALE_BYTES if kv_bits == 8 else 0
        tokens = max(1, _most_rows(dim) // (num_heads // num_kv_heads))
        items, merges = _share_out(batch, tokens, spec.window)
        partials = torch.empty(int(merges["count"].sum()), num_heads, dim + 2)
        sizes: dict[str, Any] = {
            "num_heads": num_heads,
            "num_kv_heads": num_kv_heads,
            "dim": dim,
            "block_size": block_size,
            "block_stride": cache.stride(0) * cache.dtype.itemsize,
            "kv_bits": kv_bits,
        }
        work = int(((items["end_key"] - items["first_key"]) * items["count"]).sum())
        rotate_store = calls.RotateStore(
            slot_mapping=batch.slot_mapping.data_ptr(),
            tokens=len(batch.slot_mapping),
            **sizes,
        )
        attention = calls.Attention(
            block_tables=batch.block_tables.data_ptr(),
            table_stride=batch.block_tables.shape[1],
            items=items.ctypes.data,
            num_items=len(items),
            merges=merges.ctypes.data,
            num_merges=len(merges),
            partials=partials.data_ptr(),
            scale=dim**-0.5 if spec.scale is None else spec.scale,
            softcap=spec.softcap,
            window=spec.window,
            parallel=work > PARALLEL_SIZE,
            **sizes,
        )
        return AttentionPlan(batch, items, merges, partials, rotate_store, attention)

    def rotate_store(
        self, qkv: Tensor, rotation: Rotation, cache: Tensor, plan: AttentionPlan
    ) -> None:
        cos, sin = rotation
        call = plan.rotate_store
        call.qkv = qkv.data_ptr()
        call.stride = qkv.stride(0)
        call.cos = cos.data_ptr()
        call.sin = sin.data_ptr()
        call.cache = cache.data_ptr()
        kernels.rotate_store(call)

    def rotate(self, heads: Tensor, rotation: Rotation) -> None:
        cos, sin = rotation
        tokens, num_heads, dim = heads.shape
        # No KV heads: nothing is stored, and no slot counts.
        slots = torch.zeros(tokens, dtype=torch.int32)
        kernels.rotate_store(
            calls.RotateStore(
                qkv=heads.data_ptr(),
                stride=num_heads * dim,
                cos=cos.data_ptr(),
                sin=sin.data_ptr(),
                slot_mapping=slots.data_ptr(),
                tokens=tokens,
                num_heads=num_heads,
                num_kv_heads=0,
                dim=dim,
                block_size=BLOCK_KEYS,
                kv_bits=16,
            )
        )

    def attention(
        self, q: Tensor, cache: Tensor, plan: AttentionPlan, sinks: Tensor | None = None
    ) -> Tensor:
        """q: its tokens may lie apart. sinks: [Hq] float32, scores beside those of the keys."""
        out = torch.empty(q.shape, dtype=q.dtype)
        call = plan.attention
        call.q = q.data_ptr()
        call.q_stride = q.stride(0)
        call.cache = cache.data_ptr()
        call.out = out.data_ptr()
        call.sinks = None if sinks is None else sinks.data_ptr()
        kernels.attention(call)
        return out


def _most_rows(head_dim: int) -> int:
    return min(MAX_ROWS, MAX_SUMS // head_dim)


def _share_out(batch: Batch, tokens: int, window: int) -> tuple[Records, Records]:
    """Cut the step's attention into items [n] and merges [m]; see attention.h.

    tokens: of a sequence that an item has at most. The longest come first, so that no thread is
    left with one when the others are done.
    """
    tiles: list[tuple[int, ...]] = []
    for s in range(batch.num_decodes, len(batch.context_lens)):
        start, end = batch.query_starts[s : s + 2]
        behind = batch.context_lens[s] - end
        for first in range(start, end, tokens):
            last = min(first + tokens, end)
            position = first + behind
            seen = max(0, position + 1 - window) // BLOCK_KEYS * BLOCK_KEYS if window else 0
            tiles.append((s, first, last - first, position, seen, last + behind, -1))
    tiles.sort(key=lambda tile: -tile[2] * (tile[5] - tile[4]))
    decodes, merges = _share_out_decodes(batch, window)
    return np.concatenate([np.array(tiles, ITEM), decodes]), merges


def _share_out_decodes(batch: Batch, window: int) -> tuple[Records, Records]:
    """Cut the attention of sequences that run one token."""
    lens: Ints = np.array(batch.context_lens[: batch.num_decodes], np.int32)
    seen = np.maximum(0, lens - window) // BLOCK_KEYS * BLOCK_KEYS if window else 0 * lens
    num_parts = -(-lens // SPLIT_KEYS) - seen // SPLIT_KEYS
    rows = np.repeat(np.arange(len(lens), dtype=np.int32), num_parts)
    parts = np.arange(len(rows), dtype=np.int32) + np.repeat(
        seen // SPLIT_KEYS - np.cumsum(num_parts) + num_parts, num_parts
    )
    split = num_parts > 1
    items = np.empty(len(rows), ITEM)
    items["sequence"] = items["token"] = rows
    items["count"] = 1
    items["position"] = lens[rows] - 1
    items["first_key"] = np.maximum(parts * SPLIT_KEYS, seen[rows])
    items["end_key"] = np.minimum((parts + 1) * SPLIT_KEYS, lens[rows])
    items["partial"] = np.where(split[rows], np.cumsum(split[rows]) - 1, -1)
    merged = np.flatnonzero(split)
    merges = np.empty(len(merged), MERGE)
    merges["token"] = merged
    merges["count"] = counts = num_parts[merged]
    merges["partial"] = np.cumsum(counts) - counts
    return items, merges
