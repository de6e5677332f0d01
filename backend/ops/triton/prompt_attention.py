"""Attention of prompts, and of texts that see both ways: tiles of queries over keys."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from backend.ops.score_bias import ScoreBias
from backend.ops.triton.attended_keys import (
    MAX_ROWS,
    MIN_ROWS,
    PlannedAttention,
    attend_keys,
    num_warps,
    shared_args,
)
from backend.ops.upload import upload


def prompt_tiles(starts: Sequence[int], first: int, group: int, device: torch.device) -> Tensor:
    """Cut sequences into tiles; see PlannedAttention.

    starts: [S + 1], where each begins. first: that is cut. group: query heads of a KV head.
    """
    tokens = tile_tokens(group)
    tiles = [
        (s, token)
        for s in range(first, len(starts) - 1)
        for token in range(0, starts[s + 1] - starts[s], tokens)
    ]
    return upload(tiles, device) if tiles else torch.empty(0, 2, dtype=torch.int32, device=device)


def attend_prompts(
    q: Tensor,
    cache: Tensor,
    plan: PlannedAttention,
    sinks: Tensor | None,
    bias: ScoreBias | None,
    out: Tensor,
) -> None:
    """Write what the tokens of a plan's tiles attend to; see `attention`."""
    num_kv_heads = cache.shape[2]
    group = q.shape[1] // num_kv_heads
    tokens = tile_tokens(group)
    _attend_tile[(len(plan.tiles), num_kv_heads)](
        q,
        out,
        q if sinks is None else sinks,
        plan.tiles,
        plan.starts,
        plan.lens,
        out.stride(0),
        out.stride(1),
        **shared_args(q, cache, plan, bias),
        HAS_SINKS=sinks is not None,
        TOKENS=tokens,
        ROWS=max(MIN_ROWS, triton.next_power_of_2(tokens * group)),
        num_warps=num_warps(q.shape[2]),
    )


def tile_tokens(group: int) -> int:
    """Return how many tokens' queries of one KV head a tile has."""
    return max(1, MAX_ROWS // group)


@triton.jit(
    do_not_specialize=["table_stride"],
    do_not_specialize_on_alignment=["tiles", "starts", "lens", "tables"],
)
def _attend_tile(
    q,
    out,
    sinks,
    tiles,
    starts,
    lens,
    out_token_stride,
    out_head_stride,
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
    HAS_SINKS: tl.constexpr,
    TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Some tokens of one sequence, for the query heads of one KV head."""
    tile, kv_head = tl.program_id(0), tl.program_id(1)
    sequence = tl.load(tiles + 2 * tile)
    first = tl.load(tiles + 2 * tile + 1)
    start, end = tl.load(starts + sequence), tl.load(starts + sequence + 1)
    length = tl.load(lens + sequence)
    rows, columns = tl.arange(0, ROWS), tl.arange(0, DIM)
    tokens = first + rows // GROUP
    is_row = (rows < TOKENS * GROUP) & (tokens < end - start)
    is_column = columns < dim
    positions = length - (end - start) + tokens
    heads = kv_head * GROUP + rows % GROUP
    is_number = is_row[:, None] & is_column[None, :]
    at = (start + tokens).to(tl.int64)
    place = q + at[:, None] * q_token_stride + heads[:, None] * q_head_stride + columns[None, :]
    queries = tl.load(place, mask=is_number, other=0.0)
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    sums = tl.zeros([ROWS], tl.float32)
    if HAS_SINKS:
        largest = tl.load(sinks + heads, mask=is_row, other=0.0).to(tl.float32)
        sums = tl.full([ROWS], 1.0, tl.float32)
    first_position = length - (end - start) + first
    first_key = first_position * 0
    if HAS_WINDOW:
        first_key = tl.maximum(first_position - window + 1, 0)
    end_key = length
    if IS_CAUSAL:
        end_key = tl.minimum(first_position + TOKENS, length)
    largest, sums, values = attend_keys(
        queries,
        positions,
        is_row,
        largest,
        sums,
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
    result = values / tl.where(sums > 0.0, sums, 1.0)[:, None]
    place = out + at[:, None] * out_token_stride + heads[:, None] * out_head_stride
    tl.store(place + columns[None, :], result.to(out.dtype.element_ty), mask=is_number)
