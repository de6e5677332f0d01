"""Attention over the paged cache: decodes split over keys, prompts in tiles of queries.

The query heads of a KV head are folded into the rows of a tile, so that keys and values are read
once for all of them. A decode's keys are cut into pieces that run side by side and are merged after
(Dao et al. 2023, Flash-Decoding); sums over keys are those of an online softmax (Milakov and
Gimelshein 2018), in float32. What a piece is follows from a key's position alone, so a token's bits
depend on its own sequence alone. Where a cache has 8 bits, numbers are multiplied by their scales
as they are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from backend.ops.batch import AttentionSpec, Batch
from backend.ops.score_bias import ScoreBias
from backend.ops.triton.fp8 import from_fp8
from backend.ops.upload import upload

# Rows of a tile that tensor cores multiply.
MIN_ROWS = 16
MAX_ROWS = 64
# Keys of a tile: as many as take 16 KiB, since those of three tiles and as many values are in
# shared memory at a time, of which an A10 has 99 KiB for a program.
MIN_KEYS, MAX_KEYS = 16, 64
TILE_BYTES = 16 << 10
# Keys that a program of a decode reads: so many for the first pieces, twice as many for each
# further lot of pieces. With 4,096 keys and 8 KV heads these are 128 programs, and with 131,072 a
# head has 81 pieces to merge and not 512.
SPLIT_KEYS, LOT = 256, 16
# Pieces that are merged at a time.
MERGED = 16


@dataclass(slots=True)
class PlannedAttention:
    """The attention of one step, for layers that attend alike.

    slots: [T], where keys and values go. starts [S + 1], lens [S]: of sequences; tables: [S, B].
    num_decodes: sequences of one token, which come first. num_splits: pieces of the longest of
    their contexts. tiles: [n, 2], (sequence, first of its tokens) of each tile of the others.
    is_causal: else a token sees all keys of its sequence.
    """

    spec: AttentionSpec
    slots: Tensor
    starts: Tensor
    lens: Tensor
    tables: Tensor
    num_decodes: int
    num_splits: int
    tiles: Tensor
    is_causal: bool = True

    @classmethod
    def of(
        cls,
        batch: Batch,
        num_heads: int,
        num_kv_heads: int,
        spec: AttentionSpec,
        *,
        is_causal: bool = True,
    ) -> "PlannedAttention":
        """Plan a step's. num_heads: of queries."""
        device, group = batch.input_ids.device, num_heads // num_kv_heads
        return cls(
            spec,
            batch.slot_mapping,
            batch.starts,
            batch.lens,
            batch.block_tables,
            batch.num_decodes,
            num_pieces(batch.longest, LOT),
            prompt_tiles(batch.query_starts, batch.num_decodes, group, device),
            is_causal,
        )


def prompt_tiles(starts: Sequence[int], first: int, group: int, device: torch.device) -> Tensor:
    """Cut sequences into tiles; see PlannedAttention.

    starts: [S + 1], where each begins. first: that is cut. group: query heads of a KV head.
    """
    tokens = _tile_tokens(group)
    tiles = [
        (s, token)
        for s in range(first, len(starts) - 1)
        for token in range(0, starts[s + 1] - starts[s], tokens)
    ]
    return upload(tiles, device) if tiles else torch.empty(0, 2, dtype=torch.int32, device=device)


def attention(
    q: Tensor,
    cache: Tensor,
    plan: PlannedAttention,
    sinks: Tensor | None,
    bias: ScoreBias | None = None,
) -> Tensor:
    """See `Ops.attention`. q: [T, Hq, D], whose tokens may lie apart -> [T, Hq, D].

    bias: added to scores behind the cap.
    """
    out = q.new_empty(q.shape)
    if plan.num_decodes:
        _decodes(q, cache, plan, sinks, bias, out)
    if len(plan.tiles):
        _prompts(q, cache, plan, sinks, bias, out)
    return out


def _decodes(
    q: Tensor,
    cache: Tensor,
    plan: PlannedAttention,
    sinks: Tensor | None,
    bias: ScoreBias | None,
    out: Tensor,
) -> None:
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
        **_shared(q, cache, plan, bias),
        SPLIT=SPLIT_KEYS,
        LOT=LOT,
        ROWS=max(MIN_ROWS, triton.next_power_of_2(group)),
        num_warps=_num_warps(dim),
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


def _prompts(
    q: Tensor,
    cache: Tensor,
    plan: PlannedAttention,
    sinks: Tensor | None,
    bias: ScoreBias | None,
    out: Tensor,
) -> None:
    num_kv_heads = cache.shape[2]
    group = q.shape[1] // num_kv_heads
    tokens = _tile_tokens(group)
    _attend_tile[(len(plan.tiles), num_kv_heads)](
        q,
        out,
        q if sinks is None else sinks,
        plan.tiles,
        plan.starts,
        plan.lens,
        out.stride(0),
        out.stride(1),
        **_shared(q, cache, plan, bias),
        HAS_SINKS=sinks is not None,
        TOKENS=tokens,
        ROWS=max(MIN_ROWS, triton.next_power_of_2(tokens * group)),
        num_warps=_num_warps(q.shape[2]),
    )


def num_pieces(longest: int, lot: int) -> int:
    """Return into how many pieces so many keys are cut; see `piece_of`."""
    count, end, size = 0, 0, SPLIT_KEYS
    while end < longest:
        pieces = min(lot, triton.cdiv(longest - end, size))
        count, end, size = count + pieces, end + pieces * size, 2 * size
    return count


def tile_keys(dim: int, itemsize: int) -> int:
    """Return how many keys a tile has. dim: a power of two; itemsize: bytes of a number of them.

    Keys of 8 bits are widened. Beside queries of 512 numbers an A10 has no room for twice as many.
    """
    if dim > 256:
        itemsize = max(itemsize, 2)
    return max(MIN_KEYS, min(MAX_KEYS, TILE_BYTES // (dim * itemsize)))


def _num_warps(dim: int) -> int:
    """Sums of 64 rows of 256 numbers take 128 registers of each of 128 threads."""
    return 4 if dim <= 128 else 8


def _tile_tokens(group: int) -> int:
    """Return how many tokens' queries of one KV head a tile has."""
    return max(1, MAX_ROWS // group)


def _shared(
    q: Tensor, cache: Tensor, plan: PlannedAttention, bias: ScoreBias | None
) -> dict[str, object]:
    """Return what both kernels are told alike."""
    dim = q.shape[2]
    padded = max(16, triton.next_power_of_2(dim))
    return {
        "cache": cache,
        "tables": plan.tables,
        "table_stride": plan.tables.stride(0),
        "q_token_stride": q.stride(0),
        "q_head_stride": q.stride(1),
        "block_stride": cache.stride(0),
        "part_stride": cache.stride(1),
        "kv_head_stride": cache.stride(2),
        "place_stride": cache.stride(3),
        "bias": q if bias is None else bias.numbers,
        "least": 0 if bias is None else bias.least,
        "most": 0 if bias is None else bias.most,
        "scale": dim**-0.5 if plan.spec.scale is None else plan.spec.scale,
        "softcap": plan.spec.softcap,
        "window": plan.spec.window,
        "block_size": cache.shape[3],
        "dim": dim,
        "GROUP": q.shape[1] // cache.shape[2],
        "HAS_SOFTCAP": plan.spec.softcap > 0,
        "HAS_WINDOW": plan.spec.window > 0,
        "IS_CAUSAL": plan.is_causal,
        "HAS_BIAS": bias is not None,
        "IN_8_BITS": cache.dtype in (torch.int8, torch.uint8),
        # The interpreter multiplies the bits of bfloat16 as if they were integers.
        "WIDE": triton.knobs.runtime.interpret,
        "KEYS": tile_keys(padded, cache.element_size()),
        "DIM": padded,
    }


@triton.jit
def _numbers(kept):
    """Return what a cache holds as numbers: its own but for fp8, whose bits uint8 are."""
    if kept.dtype == tl.uint8:
        return from_fp8(kept)
    else:
        return kept


@triton.jit
def piece_of(split, SPLIT: tl.constexpr, LOT: tl.constexpr):
    """Return the first key of a decode's piece and that of the next: LOT pieces of SPLIT keys, then
    as many of twice that, and so on."""
    level = split // LOT
    first = SPLIT * (LOT * ((1 << level) - 1) + ((split % LOT) << level))
    return first, first + (SPLIT << level)


@triton.jit
def _attend_keys(
    queries,
    positions,
    is_row,
    largest,
    sums,
    values,
    first_key,
    end_key,
    table,
    heads,
    biases,
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
    HAS_SOFTCAP: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    IS_CAUSAL: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    IN_8_BITS: tl.constexpr,
    WIDE: tl.constexpr,
    KEYS: tl.constexpr,
    DIM: tl.constexpr,
):
    """Go on with an online softmax over keys first_key .. end_key of one sequence and KV head.

    queries: [ROWS, DIM]; positions, is_row: [ROWS]; largest, sums: [ROWS]; values: [ROWS, DIM].
    biases: [ROWS], where those of each row's head begin, of distances least .. most.
    Where nothing is visible yet, the largest score is -inf.
    """
    columns = tl.arange(0, DIM)
    is_column = columns < dim
    if WIDE:
        queries = queries.to(tl.float32)
    first_tile = (first_key // KEYS) * KEYS
    for tile in range(first_tile, end_key, KEYS):
        keys_at = tile + tl.arange(0, KEYS)
        is_key = (keys_at >= first_key) & (keys_at < end_key)
        block = tl.load(table + keys_at // block_size, mask=is_key, other=0).to(tl.int64)
        rows = heads + block * block_stride + (keys_at % block_size) * place_stride
        places = rows[:, None] + columns[None, :]
        is_number = is_key[:, None] & is_column[None, :]
        keys = _numbers(tl.load(places, mask=is_number, other=0.0))
        shown = _numbers(tl.load(places + part_stride, mask=is_number, other=0.0))
        scores = tl.dot(queries, tl.trans(keys.to(queries.dtype)), input_precision="ieee") * scale
        if IN_8_BITS:
            factors = (rows + dim).to(tl.pointer_type(tl.float32))
            scores *= tl.load(factors, mask=is_key, other=0.0)[None, :]
        if HAS_SOFTCAP:
            # tanh(z) is 2 sigmoid(2 z) - 1.
            scores = softcap * (2.0 * tl.sigmoid(2.0 * scores / softcap) - 1.0)
        is_seen = is_key[None, :] & is_row[:, None]
        if IS_CAUSAL:
            is_seen &= keys_at[None, :] <= positions[:, None]
        if HAS_BIAS:
            distances = keys_at[None, :] - positions[:, None]
            distances = tl.minimum(tl.maximum(distances, least), most) - least
            scores += tl.load(biases[:, None] + distances, mask=is_seen, other=0.0).to(tl.float32)
        if HAS_WINDOW:
            is_seen &= keys_at[None, :] > positions[:, None] - window
        scores = tl.where(is_seen, scores, float("-inf"))
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        # A row that has seen nothing has no largest score to subtract.
        base = tl.where(new_largest == float("-inf"), 0.0, new_largest)
        weights = tl.exp(scores - base[:, None])
        decay = tl.exp(largest - base)
        sums = sums * decay + tl.sum(weights, 1)
        if IN_8_BITS:
            factors = (rows + part_stride + dim).to(tl.pointer_type(tl.float32))
            weights *= tl.load(factors, mask=is_key, other=0.0)[None, :]
        added = tl.dot(weights.to(queries.dtype), shown.to(queries.dtype), input_precision="ieee")
        values = values * decay[:, None] + added
        largest = new_largest
    return largest, sums, values


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
    largest, sums, values = _attend_keys(
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
    largest, sums, values = _attend_keys(
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
