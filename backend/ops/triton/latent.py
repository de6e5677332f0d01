"""Attention over compressed rows on a GPU: decodes split over keys, prompts in tiles of tokens.

A row is the key of all heads, and its first numbers are their value (ops/latent.py): so a tile of
rows is read once for both products, for as many heads as a program has. Where decodes are cut, and
how pieces are merged, is attention.py's; a token's bits follow from its own sequence alone.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from backend.ops.batch import Batch
from backend.ops.latent import LatentAttention
from backend.ops.triton.decode_attention import (
    MERGED,
    SPLIT_KEYS,
    merge_pieces,
    num_pieces,
    piece_of,
)
from backend.ops.upload import upload

# Heads of a program of a decode: of each row of a tile there are 512 sums. Rows of a prompt's.
HEADS, ROWS = 16, 32
# Pieces of one length, of a decode's keys: fewer than of others, for their sums are 512 numbers.
LOT = 8
# A tile of keys of 576 numbers, in two stages, takes 72 KiB of shared memory in 16 bits.
TILE_BYTES = 36 << 10
NUM_WARPS, NUM_STAGES = 8, 2


class TritonLatentAttention(LatentAttention):
    """As the one in PyTorch, without the host."""

    def __init__(self, batch: Batch, cache: Tensor) -> None:
        self._batch = batch
        # By heads: layers of one model have the same.
        self._tiles: dict[int, Tensor] = {}

    def store(self, rows: Tensor, cache: Tensor) -> None:
        if len(rows):
            width = rows.shape[1]
            _store_rows[(len(rows),)](
                rows,
                cache,
                self._batch.slot_mapping,
                rows.stride(0),
                cache.stride(0),
                cache.stride(3),
                width,
                cache.shape[3],
                BLOCK=triton.next_power_of_2(width),
            )

    def attend(self, queries: Tensor, cache: Tensor, value_dim: int, scale: float) -> Tensor:
        queries = queries if queries.stride(2) == 1 else queries.contiguous()
        out = queries.new_empty(*queries.shape[:2], value_dim)
        shared = _shared(queries, cache, self._batch, value_dim, scale)
        if self._batch.num_decodes:
            self._decodes(queries, shared, out)
        tiles = self._tiles_of(queries.shape[1])
        if len(tiles):
            num_heads = queries.shape[1]
            tokens, heads = _tile_shape(num_heads)
            _attend_tile[(len(tiles), triton.cdiv(num_heads, heads))](
                **shared,
                out=out,
                tiles=tiles,
                starts=self._batch.starts,
                num_heads=num_heads,
                TOKENS=tokens,
                HEADS=heads,
                num_warps=NUM_WARPS,
                num_stages=NUM_STAGES,
            )
        return out

    def _decodes(self, queries: Tensor, shared: dict[str, Any], out: Tensor) -> None:
        count, (_, num_heads, value_dim) = self._batch.num_decodes, out.shape
        pieces = num_pieces(self._batch.longest, LOT)
        parts = (count, num_heads, pieces)
        largest = torch.empty(parts, dtype=torch.float32, device=out.device)
        sums = torch.empty_like(largest)
        values = torch.empty((*parts, value_dim), dtype=torch.float32, device=out.device)
        _attend_split[(count, triton.cdiv(num_heads, HEADS), pieces)](
            **shared,
            largest_of=largest,
            sums_of=sums,
            values_of=values,
            num_heads=num_heads,
            HEADS=HEADS,
            SPLIT=SPLIT_KEYS,
            LOT=LOT,
            num_warps=NUM_WARPS,
            num_stages=NUM_STAGES,
        )
        merge_pieces[(count, num_heads)](
            largest,
            sums,
            values,
            out,
            out,
            out.stride(0),
            out.stride(1),
            value_dim,
            pieces,
            HAS_SINKS=False,
            MERGED=MERGED,
            DIM=triton.next_power_of_2(value_dim),
        )

    def _tiles_of(self, num_heads: int) -> Tensor:
        """Return (sequence, first of its tokens) of each tile of the prompts, [n, 2]."""
        if (found := self._tiles.get(num_heads)) is None:
            batch, (tokens, _) = self._batch, _tile_shape(num_heads)
            tiles = [
                (s, first)
                for s in range(batch.num_decodes, len(batch.context_lens))
                for first in range(0, batch.query_starts[s + 1] - batch.query_starts[s], tokens)
            ]
            device = batch.input_ids.device
            found = upload(tiles, device) if tiles else torch.empty(0, 2, device=device)
            self._tiles[num_heads] = found
        return found


def _tile_shape(num_heads: int) -> tuple[int, int]:
    """Return how many tokens and heads a tile of a prompt has, ROWS of both together."""
    heads = min(ROWS, triton.next_power_of_2(num_heads))
    return ROWS // heads, heads


def tile_keys(width: int, itemsize: int) -> int:
    """Return how many keys a tile has: a power of two from 16 to 64."""
    most = max(16, min(64, TILE_BYTES // (width * itemsize)))
    return int(1 << (most.bit_length() - 1))


def _shared(
    queries: Tensor, cache: Tensor, batch: Batch, value_dim: int, scale: float
) -> dict[str, Any]:
    """Return what both kernels are told alike."""
    width = queries.shape[2]
    value_block = max(16, triton.next_power_of_2(value_dim))
    rest_block = max(16, triton.next_power_of_2(width - value_dim))
    return {
        "q": queries,
        "cache": cache,
        "tables": batch.block_tables,
        "lens": batch.lens,
        "table_stride": batch.block_tables.stride(0),
        "q_token_stride": queries.stride(0),
        "q_head_stride": queries.stride(1),
        "block_stride": cache.stride(0),
        "place_stride": cache.stride(3),
        "scale": scale,
        "block_size": cache.shape[3],
        "value_dim": value_dim,
        "width": width,
        # The interpreter multiplies the bits of bfloat16 as if they were integers.
        "WIDE": triton.knobs.runtime.interpret,
        "KEYS": tile_keys(value_block + rest_block, cache.element_size()),
        "VALUE": value_block,
        "REST": rest_block,
    }


@triton.jit(do_not_specialize_on_alignment=["slots"])
def _store_rows(
    rows, cache, slots, row_stride, block_stride, place_stride, width, block_size,
    BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = (columns < width) & (slot >= 0)
    target = cache + (slot // block_size) * block_stride + (slot % block_size) * place_stride
    row = tl.load(rows + token * row_stride + columns, mask=inside, other=0.0)
    tl.store(target + columns, row.to(cache.dtype.element_ty), mask=inside)


@triton.jit
def _attend_rows(
    place,
    is_row,
    positions,
    first_key,
    end_key,
    table,
    cache,
    block_stride,
    place_stride,
    scale,
    block_size,
    value_dim,
    width,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
    KEYS: tl.constexpr,
    VALUE: tl.constexpr,
    REST: tl.constexpr,
):
    """Attend with queries at places [ROWS] to keys first_key .. end_key of one sequence.

    Returns the largest score, the sum of weights [ROWS], and that of values, [ROWS, VALUE].
    """
    columns, more = tl.arange(0, VALUE), value_dim + tl.arange(0, REST)
    is_value, is_more = columns < value_dim, more < width
    mask = is_row[:, None] & is_value[None, :]
    queries = tl.load(place[:, None] + columns[None, :], mask=mask, other=0.0)
    mask = is_row[:, None] & is_more[None, :]
    turned = tl.load(place[:, None] + more[None, :], mask=mask, other=0.0)
    if WIDE:
        queries, turned = queries.to(tl.float32), turned.to(tl.float32)
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    sums = tl.zeros([ROWS], tl.float32)
    values = tl.zeros([ROWS, VALUE], tl.float32)
    for tile in range(first_key, end_key, KEYS):
        keys_at = tile + tl.arange(0, KEYS)
        is_key = keys_at < end_key
        block = tl.load(table + keys_at // block_size, mask=is_key, other=0).to(tl.int64)
        row = cache + block * block_stride + (keys_at % block_size) * place_stride
        has_value = is_key[:, None] & is_value[None, :]
        keys = tl.load(row[:, None] + columns[None, :], mask=has_value, other=0.0).to(queries.dtype)
        has_more = is_key[:, None] & is_more[None, :]
        rest = tl.load(row[:, None] + more[None, :], mask=has_more, other=0.0).to(queries.dtype)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee")
        scores = tl.dot(turned, tl.trans(rest), scores, input_precision="ieee") * scale
        is_seen = is_key[None, :] & is_row[:, None] & (keys_at[None, :] <= positions[:, None])
        scores = tl.where(is_seen, scores, float("-inf"))
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        # A row that has seen nothing has no largest score to subtract.
        base = tl.where(new_largest == float("-inf"), 0.0, new_largest)
        weights, decay = tl.exp(scores - base[:, None]), tl.exp(largest - base)
        sums = sums * decay + tl.sum(weights, 1)
        values *= decay[:, None]
        values = tl.dot(weights.to(queries.dtype), keys, values, input_precision="ieee")
        largest = new_largest
    return largest, sums, values


@triton.jit(do_not_specialize=["table_stride"], do_not_specialize_on_alignment=["lens", "tables"])
def _attend_split(
    q,
    cache,
    tables,
    lens,
    largest_of,
    sums_of,
    values_of,
    table_stride,
    q_token_stride,
    q_head_stride,
    block_stride,
    place_stride,
    scale,
    block_size,
    value_dim,
    width,
    num_heads,
    WIDE: tl.constexpr,
    KEYS: tl.constexpr,
    VALUE: tl.constexpr,
    REST: tl.constexpr,
    HEADS: tl.constexpr,
    SPLIT: tl.constexpr,
    LOT: tl.constexpr,
):
    """One piece of the keys of one decode, for some heads. Grid: (decodes, heads, pieces)."""
    sequence, split, num_splits = tl.program_id(0), tl.program_id(2), tl.num_programs(2)
    length = tl.load(lens + sequence)
    first_key, end_key = piece_of(split, SPLIT, LOT)
    end_key = tl.minimum(end_key, length)
    heads = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    is_row = heads < num_heads
    parts = (sequence.to(tl.int64) * num_heads + heads) * num_splits + split
    if first_key >= end_key:
        tl.store(largest_of + parts, tl.full([HEADS], float("-inf"), tl.float32), mask=is_row)
        return
    largest, sums, values = _attend_rows(
        q + sequence.to(tl.int64) * q_token_stride + heads * q_head_stride,
        is_row,
        tl.zeros([HEADS], tl.int32) + length - 1,
        first_key,
        end_key,
        tables + sequence.to(tl.int64) * table_stride,
        cache,
        block_stride,
        place_stride,
        scale,
        block_size,
        value_dim,
        width,
        HEADS,
        WIDE,
        KEYS,
        VALUE,
        REST,
    )
    tl.store(largest_of + parts, largest, mask=is_row)
    tl.store(sums_of + parts, sums, mask=is_row)
    columns = tl.arange(0, VALUE)
    mask = is_row[:, None] & (columns < value_dim)[None, :]
    tl.store(values_of + parts[:, None] * value_dim + columns[None, :], values, mask=mask)


@triton.jit(
    do_not_specialize=["table_stride"],
    do_not_specialize_on_alignment=["tiles", "starts", "lens", "tables"],
)
def _attend_tile(
    q,
    cache,
    tables,
    lens,
    out,
    tiles,
    starts,
    table_stride,
    q_token_stride,
    q_head_stride,
    block_stride,
    place_stride,
    scale,
    block_size,
    value_dim,
    width,
    num_heads,
    WIDE: tl.constexpr,
    KEYS: tl.constexpr,
    VALUE: tl.constexpr,
    REST: tl.constexpr,
    TOKENS: tl.constexpr,
    HEADS: tl.constexpr,
):
    """Some tokens of one sequence, for some heads. out: [T, H, value_dim], contiguous."""
    tile = tl.program_id(0)
    sequence = tl.load(tiles + 2 * tile)
    first = tl.load(tiles + 2 * tile + 1)
    start, end = tl.load(starts + sequence), tl.load(starts + sequence + 1)
    length = tl.load(lens + sequence)
    rows = tl.arange(0, TOKENS * HEADS)
    tokens, heads = first + rows // HEADS, tl.program_id(1) * HEADS + rows % HEADS
    is_row = (tokens < end - start) & (heads < num_heads)
    positions = length - (end - start) + tokens
    at = (start + tokens).to(tl.int64)
    _, sums, values = _attend_rows(
        q + at * q_token_stride + heads * q_head_stride,
        is_row,
        positions,
        0,
        tl.minimum(length - (end - start) + first + TOKENS, length),
        tables + sequence.to(tl.int64) * table_stride,
        cache,
        block_stride,
        place_stride,
        scale,
        block_size,
        value_dim,
        width,
        TOKENS * HEADS,
        WIDE,
        KEYS,
        VALUE,
        REST,
    )
    result = values / tl.where(sums > 0.0, sums, 1.0)[:, None]
    columns = tl.arange(0, VALUE)
    place = out + (at * num_heads + heads)[:, None] * value_dim + columns[None, :]
    mask = is_row[:, None] & (columns < value_dim)[None, :]
    tl.store(place, result.to(out.dtype.element_ty), mask=mask)
