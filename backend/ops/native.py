"""The ops in C, bf16 on CPUs at any level of instructions; see backend/native for the kernels."""

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backend.config.spec import Norm
from backend.native import calls, kernels
from backend.ops.addresses import address_of
from backend.ops.attention_items import (
    BLOCK_KEYS,
    PARALLEL_SIZE,
    Records,
    most_rows,
    share_out,
)
from backend.ops.batch import FULL, AttentionSpec, Batch, Rotation
from backend.ops.kv_cache import SCALE_BYTES
from backend.ops.latent import LatentAttention, RowNorm
from backend.ops.native_conv import NativeConvOps
from backend.ops.native_delta import NativeDeltaOps
from backend.ops.native_experts import NativeExpertOps
from backend.ops.native_gates import NativeGateOps
from backend.ops.native_latent import NativeLatentAttention
from backend.ops.native_ssm import NativeSsmOps

MAX_DIM = 512

_NOTHING = torch.empty(0)


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


@dataclass(frozen=True, slots=True)
class _BlankCalls:
    """The two calls of a plan, with the sizes of a cache and what a spec says."""

    rotate_store: calls.RotateStore
    attention: calls.Attention

    @classmethod
    def of(cls, cache: Tensor, num_heads: int, spec: AttentionSpec) -> "_BlankCalls":
        _, _, num_kv_heads, block_size, dim = cache.shape
        kv_bits = 8 * cache.dtype.itemsize
        dim -= SCALE_BYTES if kv_bits == 8 else 0
        sizes: dict[str, Any] = {
            "num_heads": num_heads,
            "num_kv_heads": num_kv_heads,
            "dim": dim,
            "block_size": block_size,
            "block_stride": cache.stride(0) * cache.dtype.itemsize,
            "kv_bits": kv_bits,
        }
        attention = calls.Attention(
            scale=dim**-0.5 if spec.scale is None else spec.scale,
            softcap=spec.softcap,
            window=spec.window,
            **sizes,
        )
        return cls(calls.RotateStore(**sizes), attention)


class NativeOps(NativeGateOps, NativeExpertOps, NativeConvOps, NativeDeltaOps, NativeSsmOps):
    """See `Ops` for shapes. Every tensor is bf16 and contiguous, but for encoders' float32 norms.

    A cache of int8, [blocks, 2, Hkv, block size, D + SCALE_BYTES], has keys and values in 8 bits,
    with one scale a token and head.
    """

    reads_8_bits = True
    reads_fp8 = False

    def __init__(self) -> None:
        self.name = f"own {kernels.level()} kernels"
        self._add_rms_norm = calls.AddRmsNorm()
        self._blanks: dict[tuple[object, ...], _BlankCalls] = {}

    @staticmethod
    def takes(head_dim: int, block_size: int, num_heads: int, num_kv_heads: int) -> bool:
        """Whether the kernels are here, and made for these sizes."""
        return (
            kernels is not None
            and head_dim % 16 == 0
            and head_dim <= MAX_DIM
            and block_size % 16 == 0
            and num_heads // num_kv_heads <= most_rows(head_dim)
        )

    def add_rms_norm(
        self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        assert x.dtype == torch.bfloat16
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

    def add_layer_norm(
        self,
        x: Tensor,
        delta: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> tuple[Tensor, Tensor]:
        if x.dtype is torch.float32:
            return super().add_layer_norm(x, delta, weight, bias, eps)
        assert x.is_contiguous() and (delta is None or delta.is_contiguous())
        out = torch.empty_like(x)
        sums = x if delta is None else torch.empty_like(x)
        kernels.add_layer_norm(
            calls.AddLayerNorm(
                x=x.data_ptr(),
                delta=address_of(delta),
                weight=address_of(weight),
                bias=address_of(bias),
                sum=None if delta is None else sums.data_ptr(),
                out=out.data_ptr(),
                tokens=len(x),
                width=x.shape[1],
                eps=eps,
            )
        )
        return sums, out

    def head_norm(self, heads: Tensor, weight: Tensor | None, eps: float) -> None:
        _norm_heads(heads, weight, eps, heads)

    def head_norm_into(self, heads: Tensor, weight: Tensor | None, eps: float, out: Tensor) -> None:
        _norm_heads(heads, weight, eps, out)

    def norm_each_head(self, heads: Tensor, weight: Tensor, norm: Norm) -> None:
        _norm_heads(
            heads,
            weight,
            norm.eps,
            heads,
            weight_stride=heads.shape[2],
            is_centred=norm.kind == "layer",
        )

    def plan_latent(
        self, batch: Batch, cache: Tensor, num_heads: int, value_dim: int
    ) -> LatentAttention:
        if not NativeLatentAttention.takes(cache.shape[-1], value_dim, cache.shape[3]):
            return super().plan_latent(batch, cache, num_heads, value_dim)
        return NativeLatentAttention(batch, cache, num_heads, value_dim)

    def store_latent(
        self,
        rows: Tensor,
        turning: Tensor,
        queries: Tensor,
        norm: RowNorm,
        rotation: Rotation,
        cache: Tensor,
        plan: LatentAttention,
    ) -> None:
        if isinstance(plan, NativeLatentAttention):
            plan.store_turned(rows, turning, queries, norm, rotation, cache)
        else:
            super().store_latent(rows, turning, queries, norm, rotation, cache, plan)

    def plan_attention(
        self, batch: Batch, cache: Tensor, num_heads: int, spec: AttentionSpec = FULL
    ) -> AttentionPlan:
        """Layers of another spec need another plan."""
        blank = self._blank_calls(cache, num_heads, spec)
        dim = blank.attention.dim
        tokens = max(1, most_rows(dim) // (num_heads // blank.attention.num_kv_heads))
        items, merges, work = share_out(batch, tokens, spec.window)
        num_partials = int(merges["count"].sum()) if len(merges) else 0
        partials = torch.empty(num_partials, num_heads, dim + 2) if num_partials else _NOTHING
        rotate_store = calls.RotateStore.from_buffer_copy(blank.rotate_store)
        rotate_store.slot_mapping = batch.slot_mapping.data_ptr()
        rotate_store.tokens = len(batch.slot_mapping)
        attention = calls.Attention.from_buffer_copy(blank.attention)
        attention.block_tables = batch.block_tables.data_ptr()
        attention.table_stride = batch.block_tables.shape[1]
        attention.items, attention.num_items = items.ctypes.data, len(items)
        attention.merges, attention.num_merges = merges.ctypes.data, len(merges)
        attention.partials = partials.data_ptr()
        attention.parallel = work > PARALLEL_SIZE
        return AttentionPlan(batch, items, merges, partials, rotate_store, attention)

    def _blank_calls(self, cache: Tensor, num_heads: int, spec: AttentionSpec) -> "_BlankCalls":
        """Return the calls of a plan with all that is the same in each step, made once."""
        key = (cache.shape, cache.stride(0), cache.dtype, num_heads, spec)
        if (found := self._blanks.get(key)) is None:
            found = self._blanks[key] = _BlankCalls.of(cache, num_heads, spec)
        return found

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
        # No KV heads: nothing is stored.
        kernels.rotate_store(
            calls.RotateStore(
                qkv=heads.data_ptr(),
                stride=heads.stride(0),
                cos=cos.data_ptr(),
                sin=sin.data_ptr(),
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
        call.sinks = address_of(sinks)
        kernels.attention(call)
        return out


def _norm_heads(
    heads: Tensor,
    weight: Tensor | None,
    eps: float,
    out: Tensor,
    *,
    weight_stride: int = 0,
    is_centred: bool = False,
) -> None:
    tokens, num_heads, dim = heads.shape
    kernels.head_norm(
        calls.HeadNorm(
            heads=heads.data_ptr(),
            stride=heads.stride(0),
            weight=address_of(weight),
            weight_stride=weight_stride,
            is_centred=is_centred,
            out=out.data_ptr(),
            out_stride=out.stride(0),
            tokens=tokens,
            num_heads=num_heads,
            dim=dim,
            eps=eps,
        )
    )
