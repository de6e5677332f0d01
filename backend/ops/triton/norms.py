"""Norms of rows, one program a row. Sums are float32; results are rounded once."""

import triton
import triton.language as tl
from torch import Tensor

from backend.ops.gated_norm import GatedNorm


def add_rms_norm(
    x: Tensor, delta: Tensor | None, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """See `Ops.add_rms_norm`. x, delta: [T, H], whose tokens may lie apart."""
    total = x if delta is None else x.new_empty(x.shape)
    out = x.new_empty(x.shape)
    tokens, width = x.shape
    if tokens:
        _add_rms_norm[(tokens,)](
            x,
            x if delta is None else delta,
            weight,
            total,
            out,
            x.stride(0),
            0 if delta is None else delta.stride(0),
            width,
            eps,
            HAS_DELTA=delta is not None,
            BLOCK=triton.next_power_of_2(width),
        )
    return total, out


def head_norm(heads: Tensor, weight: Tensor | None, eps: float) -> None:
    """See `Ops.head_norm`. heads: [T, n, D], in place."""
    tokens, num_heads, dim = heads.shape
    if heads.numel():
        _head_norm[(tokens, num_heads)](
            heads,
            heads if weight is None else weight,
            heads.stride(0),
            heads.stride(1),
            dim,
            eps,
            HAS_WEIGHT=weight is not None,
            BLOCK=triton.next_power_of_2(dim),
        )


def gated_norm(x: Tensor, gate: Tensor, norm: GatedNorm) -> Tensor:
    """See `Ops.gated_norm`, of groups that are whole here. x: [T, n, D]; gate: [T, n * D]."""
    tokens, num_heads, dim = x.shape
    out = x.new_empty(tokens, num_heads * dim)
    if x.numel():
        _gated_norm[(tokens, num_heads)](
            x,
            gate,
            norm.weight,
            out,
            x.stride(0),
            x.stride(1),
            gate.stride(0),
            out.stride(0),
            dim if norm.weight.ndim == 2 else 0,
            dim,
            norm.eps,
            norm.gate_scale,
            GATE=norm.gate,
            BLOCK=triton.next_power_of_2(dim),
        )
    return out


@triton.jit
def _add_rms_norm(
    x,
    delta,
    weight,
    total,
    out,
    x_stride,
    delta_stride,
    width,
    eps,
    HAS_DELTA: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK)
    inside = places < width
    value = tl.load(x + row * x_stride + places, mask=inside, other=0.0)
    if HAS_DELTA:
        added = tl.load(delta + row * delta_stride + places, mask=inside, other=0.0)
        # What is normed is what is kept: the sum as it is rounded.
        value = (value.to(tl.float32) + added.to(tl.float32)).to(total.dtype.element_ty)
        tl.store(total + row * width + places, value, mask=inside)
    wide = value.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / width + eps)
    factors = tl.load(weight + places, mask=inside, other=0.0).to(tl.float32)
    normed = (wide * scale * factors).to(out.dtype.element_ty)
    tl.store(out + row * width + places, normed, mask=inside)


@triton.jit
def _head_norm(
    heads,
    weight,
    token_stride,
    head_stride,
    dim,
    eps,
    HAS_WEIGHT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    places = tl.arange(0, BLOCK)
    inside = places < dim
    head = heads + tl.program_id(0).to(tl.int64) * token_stride + tl.program_id(1) * head_stride
    wide = tl.load(head + places, mask=inside, other=0.0).to(tl.float32)
    normed = wide * tl.rsqrt(tl.sum(wide * wide, 0) / dim + eps)
    if HAS_WEIGHT:
        normed *= tl.load(weight + places, mask=inside, other=0.0).to(tl.float32)
    tl.store(head + places, normed.to(heads.dtype.element_ty), mask=inside)


@triton.jit
def _gated_norm(
    x,
    gate,
    weight,
    out,
    token_stride,
    head_stride,
    gate_stride,
    out_stride,
    weight_stride,
    dim,
    eps,
    gate_scale,
    GATE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    places = tl.arange(0, BLOCK)
    inside = places < dim
    row = x + token * token_stride + head * head_stride
    wide = tl.load(row + places, mask=inside, other=0.0).to(tl.float32)
    scaled = tl.load(gate + token * gate_stride + head * dim + places, mask=inside, other=0.0)
    scaled = scaled.to(tl.float32) * gate_scale
    opened = scaled * tl.sigmoid(scaled)
    if GATE != "behind":
        wide *= opened
    if GATE != "alone":
        wide *= tl.rsqrt(tl.sum(wide * wide, 0) / dim + eps)
    wide *= tl.load(weight + head * weight_stride + places, mask=inside, other=0.0)
    if GATE == "behind":
        wide *= opened
    target = out + token * out_stride + head * dim
    tl.store(target + places, wide.to(out.dtype.element_ty), mask=inside)
