"""Rotation of queries and keys, and the way of keys and values into the paged cache: one launch.

A program has one head of one token. Places of the cache come from the slot mapping on the device:
nothing waits for the host. A negative slot is a padding row's, which writes nothing.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from backend.ops.batch import Rotation
from backend.ops.triton.fp8 import to_fp8


def rotate(heads: Tensor, rotation: Rotation) -> None:
    """See `Ops.rotate`. heads: [T, n, D], in place."""
    if heads.numel():
        cos, sin = rotation
        tokens, num_heads, dim = heads.shape
        _rotate[(tokens, num_heads)](
            heads,
            cos,
            sin,
            heads.stride(0),
            heads.stride(1),
            dim // 2,
            BLOCK=triton.next_power_of_2(dim // 2),
            num_warps=num_warps(dim),
        )


def num_warps(dim: int) -> int:
    """Return the warps of a head's program, none of which has another's numbers as well.

    Of half a head of 64 numbers four warps would have two copies. Heads are turned in place: a warp
    that comes late would read what another has written, and give a wrong scale to keys of 8 bits.
    """
    return max(1, min(4, int(triton.next_power_of_2(dim // 2)) // 64))


def rotate_store(qkv: Tensor, rotation: Rotation, cache: Tensor, slots: Tensor) -> None:
    """See `Ops.rotate_store`. slots: [T] int32; cache: [blocks, 2, Hkv, block size, D], or with
    8 bits (int8, or uint8, whose bits are e4m3) [.., D + 4], each key and value behind its numbers
    their float32 scale."""
    _launch(qkv, cache, slots, rotation)


def store(kv: Tensor, cache: Tensor, slots: Tensor) -> None:
    """Write keys and values [T, 2 Hkv, D] into a layer's cache, as rotate_store() does."""
    _launch(kv, cache, slots, None)


def _launch(heads: Tensor, cache: Tensor, slots: Tensor, rotation: Rotation | None) -> None:
    tokens, num_heads, dim = heads.shape
    if not tokens:
        return
    cos, sin = rotation or (heads, heads)
    num_kv_heads = cache.shape[2]
    _rotate_store[(tokens, num_heads)](
        heads,
        cos,
        sin,
        cache,
        slots,
        heads.stride(0),
        heads.stride(1),
        cache.stride(0),
        cache.stride(1),
        cache.stride(2),
        cache.stride(3),
        dim // 2,
        num_heads - 2 * num_kv_heads,
        num_kv_heads,
        cache.shape[3],
        TURNS=rotation is not None,
        IN_8_BITS=cache.dtype in (torch.int8, torch.uint8),
        BLOCK=triton.next_power_of_2(dim // 2),
        num_warps=num_warps(dim),
    )


@triton.jit
def _turned(head, cos, sin, half, places, inside):
    """Return both halves of a head, rotated: x cos + (x with its halves swapped) sin."""
    first = tl.load(head + places, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(head + half + places, mask=inside, other=0.0).to(tl.float32)
    cos_first = tl.load(cos + places, mask=inside, other=0.0).to(tl.float32)
    cos_second = tl.load(cos + half + places, mask=inside, other=0.0).to(tl.float32)
    sin_first = tl.load(sin + places, mask=inside, other=0.0).to(tl.float32)
    sin_second = tl.load(sin + half + places, mask=inside, other=0.0).to(tl.float32)
    turned_first = first * cos_first + second * sin_first
    turned_second = second * cos_second + first * sin_second
    return turned_first, turned_second


@triton.jit
def _rotate(heads, cos, sin, token_stride, head_stride, half, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    head = heads + token * token_stride + tl.program_id(1) * head_stride
    places = tl.arange(0, BLOCK)
    inside = places < half
    turned = token * 2 * half
    first, second = _turned(head, cos + turned, sin + turned, half, places, inside)
    tl.store(head + places, first.to(heads.dtype.element_ty), mask=inside)
    tl.store(head + half + places, second.to(heads.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize_on_alignment=["slots"])
def _rotate_store(
    qkv,
    cos,
    sin,
    cache,
    slots,
    token_stride,
    head_stride,
    block_stride,
    part_stride,
    kv_head_stride,
    place_stride,
    half,
    num_heads,
    num_kv_heads,
    block_size,
    TURNS: tl.constexpr,
    IN_8_BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token, index = tl.program_id(0).to(tl.int64), tl.program_id(1)
    head = qkv + token * token_stride + index * head_stride
    places = tl.arange(0, BLOCK)
    inside = places < half
    is_value = index >= num_heads + num_kv_heads
    stays = is_value
    if not TURNS:
        stays = index >= 0
    if stays:
        first = tl.load(head + places, mask=inside, other=0.0).to(tl.float32)
        second = tl.load(head + half + places, mask=inside, other=0.0).to(tl.float32)
    else:
        turned = token * 2 * half
        first, second = _turned(head, cos + turned, sin + turned, half, places, inside)
        tl.store(head + places, first.to(qkv.dtype.element_ty), mask=inside)
        tl.store(head + half + places, second.to(qkv.dtype.element_ty), mask=inside)
    slot = tl.load(slots + token).to(tl.int64)
    if (index >= num_heads) & (slot >= 0):
        kv_head = (index - num_heads) % num_kv_heads
        part = tl.where(is_value, 1, 0)
        target = cache + (slot // block_size) * block_stride + part * part_stride
        target += kv_head * kv_head_stride + (slot % block_size) * place_stride
        if IN_8_BITS:
            largest = tl.maximum(tl.max(tl.abs(first), 0), tl.max(tl.abs(second), 0))
            MOST: tl.constexpr = 448.0 if cache.dtype.element_ty == tl.uint8 else 127.0
            scale = largest / MOST
            inverse = tl.where(largest > 0.0, MOST / largest, 0.0)
            tl.store(target + places, _to_8_bits(first * inverse, target), mask=inside)
            tl.store(target + half + places, _to_8_bits(second * inverse, target), mask=inside)
            tl.store((target + 2 * half).to(tl.pointer_type(tl.float32)), scale)
        else:
            # Rounded as the queries are, then to what the cache holds.
            kept = first.to(qkv.dtype.element_ty).to(cache.dtype.element_ty)
            tl.store(target + places, kept, mask=inside)
            kept = second.to(qkv.dtype.element_ty).to(cache.dtype.element_ty)
            tl.store(target + half + places, kept, mask=inside)


@triton.jit
def _to_8_bits(x, target):
    """Round to the nearest: integers, halves away from zero, or e4m3, by what target holds."""
    if target.dtype.element_ty == tl.uint8:
        return to_fp8(x)
    else:
        return tl.where(x >= 0.0, tl.floor(x + 0.5), tl.ceil(x - 0.5)).to(tl.int8)
