"""What decodes and prompts share: a pass over keys of the paged cache, and what it is told.

Sums over keys are those of an online softmax (Milakov and Gimelshein 2018), in float32. Where a
cache has 8 bits, numbers are multiplied by their scales as they are read.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from backend.ops.batch import AttentionSpec
from backend.ops.score_bias import ScoreBias
from backend.ops.triton.fp8 import from_fp8

# Rows of a tile that tensor cores multiply.
MIN_ROWS = 16
MAX_ROWS = 64
# Keys of a tile: as many as take 16 KiB, since those of three tiles and as many values are in
# shared memory at a time, of which an A10 has 99 KiB for a program.
MIN_KEYS, MAX_KEYS = 16, 64
TILE_BYTES = 16 << 10


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


def shared_args(
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


def tile_keys(dim: int, itemsize: int) -> int:
    """Return how many keys a tile has. dim: a power of two; itemsize: bytes of a number of them.

    Keys of 8 bits are widened. Beside queries of 512 numbers an A10 has no room for twice as many.
    """
    if dim > 256:
        itemsize = max(itemsize, 2)
    return max(MIN_KEYS, min(MAX_KEYS, TILE_BYTES // (dim * itemsize)))


def num_warps(dim: int) -> int:
    """Sums of 64 rows of 256 numbers take 128 registers of each of 128 threads."""
    return 4 if dim <= 128 else 8


@triton.jit
def _numbers(kept):
    """Return what a cache holds as numbers: its own but for fp8, whose bits uint8 are."""
    if kept.dtype == tl.uint8:
        return from_fp8(kept)
    else:
        return kept


@triton.jit
def attend_keys(
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
