"""Attention of decodes: their keys are cut into pieces that run side by side and are merged after
(Dao et al. 2023, Flash-Decoding).

What a piece is follows from a key's position alone, so a token's bits depend on its own sequence
alone.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from backend.ops.score_bias import ScoreBias
from backend.ops.triton.attended_keys import (
    MIN_ROWS,
    PlannedAttention,
    attend_keys,
    num_warps,
    shared_args,
)

# Keys that a program of a decode reads: so many for the first pieces, twice as many for each
# further lot of pieces. With 4,096 keys and 8 KV heads these are 128 programs, and with 131,072 a
# head has 81 pieces to merge and not 512.
SPLIT_KEYS, LOT = 256, 16
# Pieces that are merged at a time.
MERGED = 16


def attend_decodes(
    q: Tensor,
    cache: Tensor,
    plan: PlannedAttention,
    sinks: Tensor | None,
    bias: ScoreBias | None,
    out: Tensor,
) -> None:
    """Write what a step's decodes attend to; see `attention`."""
    _, num_heads, dim = q.shape
    num_kv_heads = cache.shape[2]
    # Of each piece: the largest score, the sum of weights and the sum of weighted values.
    parts = (plan.num_decodes, num_heads, plan.num_splits)
    largest = torch.empty(parts, dtype=torch.float32, device=q.device)
    sums = torch.empty_like(largest)
    values = torch.empty((*parts, dim), dtype=torch.float32, device=q.device)
    group = num_heads // num_kv_heads
    _attend_split[(plan.num_decodes, num_kv_heads, plan.num_splits)](
        q,
        largest,
        sums,
        values,
        plan.lens,
        **shared_args(q, cache, plan, bias),
        SPLIT=SPLIT_KEYS,
        LOT=LOT,
        ROWS=max(MIN_ROWS, triton.next_power_of_2(group)),
        num_warps=num_warps(dim),
    )
    merge_pieces[(plan.num_decodes, num_heads)](
        largest,
        sums,
        values,
        q if sinks is None else sinks,
        out,
        out.stride(0),
        out.stride(1),
        dim,
        plan.num_splits,
        HAS_SINKS=sinks is not None,
        MERGED=MERGED,
        DIM=triton.next_power_of_2(dim),
    )


def num_pieces(longest: int, lot: int) -> int:
    """Return into how many pieces so many keys are cut; see `piece_of`."""
    count, end, size = 0, 0, SPLIT_KEYS
    while end < longest:
        pieces = min(lot, triton.cdiv(longest - end, size))
        count, end, size = count + pieces, end + pieces * size, 2 * size
    return count


@triton.jit
def piece_of(split, SPLIT: tl.constexpr, LOT: tl.constexpr):
    """Return the first key of a decode's piece and that of the next: LOT pieces of SPLIT keys, then
    as many of twice that, and so on."""
    level = split // LOT
    first = SPLIT * (LOT * ((1 << level) - 1) + ((split % LOT) << level))
    return first, first + (SPLIT << level)


@triton.jit(do_not_specialize=["table_stride"], do_not_specialize_on_alignment=["lens", "tables"])
def _attend_split(
    q,
    largest_of,
    sums_of,
    values_of,
    lens,
    cache,
    tables,
    table_stride,
    q_token_stride,
    q_head_stride,
    block_stride,
    part_stride,
    kv_head_stride,
    place_stride,
    bias,
    least,
    most,
    scale,
    softcap,
    window,
    block_size,
    dim,
    GROUP: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    IS_CAUSAL: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    IN_8_BITS: tl.constexpr,
    WIDE: tl.constexpr,
    KEYS: tl.constexpr,
    DIM: tl.constexpr,
    SPLIT: tl.constexpr,
    LOT: tl.constexpr,
    ROWS: tl.constexpr,
):
    """One piece of the keys of one decode, for the query heads of one KV head."""
    sequence, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    num_kv_heads, num_splits = tl.num_programs(1), tl.num_programs(2)
    length = tl.load(lens + sequence)
    first_key, end_key = piece_of(split, SPLIT, LOT)
    end_key = tl.minimum(end_key, length)
    if HAS_WINDOW:
        first_key = tl.maximum(first_key, length - window)
    rows, columns = tl.arange(0, ROWS), tl.arange(0, DIM)
    is_row, is_column = rows < GROUP, columns < dim
    heads = kv_head * GROUP + rows
    parts = (sequence.to(tl.int64) * num_kv_heads * GROUP + heads) * num_splits + split
    if first_key >= end_key:
        # Bounds of captured steps are far apart, so most pieces may be empty.
        tl.store(largest_of + parts, tl.full([ROWS], float("-inf"), tl.float32), mask=is_row)
        return
    place = q + sequence.to(tl.int64) * q_token_stride + heads[:, None] * q_head_stride
    is_number = is_row[:, None] & is_column[None, :]
    queries = tl.load(place + columns[None, :], mask=is_number, other=0.0)
    largest, sums, values = attend_keys(
        queries,
        tl.zeros([ROWS], tl.int32) + length - 1,
        is_row,
        tl.full([ROWS], float("-inf"), tl.float32),
        tl.zeros([ROWS], tl.float32),
        tl.zeros([ROWS, DIM], tl.float32),
        first_key,
        end_key,
        tables + sequence.to(tl.int64) * table_stride,
        cache + kv_head * kv_head_stride,
        bias + heads * (most - least + 1),
        least,
        most,
        block_stride,
        part_stride,
        place_stride,
        scale,
        softcap,
        window,
        block_size,
        dim,
        HAS_SOFTCAP,
        HAS_WINDOW,
        IS_CAUSAL,
        HAS_BIAS,
        IN_8_BITS,
        WIDE,
        KEYS,
        DIM,
    )
    tl.store(largest_of + parts, largest, mask=is_row)
    tl.store(sums_of + parts, sums, mask=is_row)
    tl.store(values_of + parts[:, None] * dim + columns[None, :], values, mask=is_number)


@triton.jit(do_not_specialize=["num_splits"])
def merge_pieces(
    largest_of,
    sums_of,
    values_of,
    sinks,
    out,
    token_stride,
    head_stride,
    dim,
    num_splits,
    HAS_SINKS: tl.constexpr,
    MERGED: tl.constexpr,
    DIM: tl.constexpr,
):
    """Merge the pieces of one head of one decode, in order; those without keys have no values."""
    sequence, head, num_heads = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    columns = tl.arange(0, DIM)
    is_column = columns < dim
    at = (sequence.to(tl.int64) * num_heads + head) * num_splits
    base = tl.full([], float("-inf"), tl.float32)
    total = tl.full([], 0.0, tl.float32)
    if HAS_SINKS:
        base = tl.load(sinks + head).to(tl.float32)
        total = tl.full([], 1.0, tl.float32)
    values = tl.zeros([DIM], tl.float32)
    for first in range(0, num_splits, MERGED):
        splits = first + tl.arange(0, MERGED)
        is_split = splits < num_splits
        largest = tl.load(largest_of + at + splits, mask=is_split, other=float("-inf"))
        has_keys = largest > float("-inf")
        sums = tl.load(sums_of + at + splits, mask=has_keys, other=0.0)
        places = (at + splits)[:, None] * dim + columns[None, :]
        is_number = has_keys[:, None] & is_column[None, :]
        parts = tl.load(values_of + places, mask=is_number, other=0.0)
        highest = tl.maximum(base, tl.max(largest, 0))
        # A row of padding has seen nothing.
        shift = tl.where(highest == float("-inf"), 0.0, highest)
        weights, decay = tl.exp(largest - shift), tl.exp(base - shift)
        total = total * decay + tl.sum(weights * sums, 0)
        values = values * decay + tl.sum(weights[:, None] * parts, 0)
        base = highest
    result = values / tl.where(total > 0.0, total, 1.0)
    target = out + sequence.to(tl.int64) * token_stride + head * head_stride
    tl.store(target + columns, result.to(out.dtype.element_ty), mask=is_column)
