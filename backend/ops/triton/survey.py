"""What is to be known of rows of logits before tokens are drawn: one reading of each logit.

A program has one piece of one row. It finds the largest logit and its place, the sums of the
masses exp(logit / temperature) of chunks of 256, and the piece's best tokens. Masses are relative
to the piece's own largest, so that programs wait for nothing.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from backend.ops.triton.best_keys import NO_KEY, best, key_of, merge

# Tokens of a sum: ops/cumulative_probs.py has sums of as many.
CHUNK: tl.constexpr = tl.constexpr(256)
# Tokens of a program.
MOST_LOG_PIECE = 12
_LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)


class Survey(NamedTuple):
    """Of N rows in P pieces.

    peaks: [N, P] float32, the largest logit of each, NaN if one is; places: [N, P] int32, the first
    token that has it. sums: [N, P, chunks of a piece] float32. keys: [N, K] int64, the best K
    tokens of each row; K is 0 where nobody asked.
    """

    peaks: Tensor
    places: Tensor
    sums: Tensor
    keys: Tensor


def survey(logits: Tensor, rows: Tensor, temperature: Tensor | None, num_best: int) -> Survey:
    """Survey rows of logits, [N, V] float32.

    rows: [N] int32, place of each row's temperature in `temperature`, float64; None: all are 1.
    num_best: 0, or K, a power of two up to 256.
    """
    num_rows, width = logits.shape
    # Of the width alone: a row's bits depend on its own logits alone.
    log_piece = min(MOST_LOG_PIECE, max(8, (width - 1).bit_length()))
    shape = num_rows, triton.cdiv(width, 1 << log_piece)
    peaks = torch.empty(shape, dtype=torch.float32, device=logits.device)
    places = torch.empty(shape, dtype=torch.int32, device=logits.device)
    sums = peaks.new_empty(*shape, (1 << log_piece) // CHUNK.value)
    keys = torch.empty(*shape, num_best, dtype=torch.int64, device=logits.device)
    if logits.numel():
        _survey[shape](
            logits,
            logits.stride(0),
            width,
            rows,
            peaks if temperature is None else temperature,
            peaks,
            places,
            sums,
            keys,
            IS_WARM=temperature is not None,
            LOG_PIECE=log_piece,
            LOG_BEST=num_best.bit_length() - 1,
            num_warps=8,
        )
    return Survey(peaks, places, sums, merge(keys) if num_best else keys[:, 0])


@triton.jit
def scale_of(temperature):
    """Return what a logit is multiplied by to be the exponent of 2 of its mass; 0 if greedy."""
    return tl.where(temperature > 0.0, _LOG2_E / temperature, 0.0).to(tl.float32)


@triton.jit
def peaks_of(peaks, n, num_pieces, PIECES: tl.constexpr):
    """Return the largest logits of a row's pieces, -inf behind them, the row's, and 1 if it has
    NaN."""
    pieces = tl.arange(0, PIECES)
    found = tl.load(peaks + n * num_pieces + pieces, mask=pieces < num_pieces, other=float("-inf"))
    has_nan = tl.max(tl.where(found == found, 0, 1), 0)
    return found, tl.max(tl.where(found == found, found, float("-inf")), 0), has_nan


@triton.jit
def masses_of(
    peaks, sums, n, num_pieces, peak, scale, PIECES: tl.constexpr, PER_PIECE: tl.constexpr
):
    """Return the masses of a row's chunks relative to its largest logit, float64, 0 behind them."""
    chunks = tl.arange(0, PIECES * PER_PIECE)
    is_chunk = chunks < num_pieces * PER_PIECE
    at = n * num_pieces
    masses = tl.load(sums + at * PER_PIECE + chunks, mask=is_chunk, other=0.0)
    tops = tl.load(peaks + at + chunks // PER_PIECE, mask=is_chunk, other=float("-inf"))
    return masses.to(tl.float64) * tl.exp2((tops - peak) * scale)


@triton.jit(do_not_specialize_on_alignment=["rows"])
def _survey(
    logits,
    row_stride,
    width,
    rows,
    temperature,
    peaks,
    places,
    sums,
    keys,
    IS_WARM: tl.constexpr,
    LOG_PIECE: tl.constexpr,
    LOG_BEST: tl.constexpr,
):
    PIECE: tl.constexpr = 2**LOG_PIECE
    n, piece, num_pieces = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    tokens = piece * PIECE + tl.arange(0, PIECE)
    inside = tokens < width
    values = tl.load(logits + n * row_stride + tokens, mask=inside, other=float("-inf"))
    is_number = values == values
    peak = tl.max(tl.where(is_number, values, float("-inf")), 0)
    place = tl.min(tl.where(values == peak, tokens, 0x7FFFFFFF), 0)
    has_nan = tl.max(tl.where(is_number, 0, 1), 0)
    at = n * num_pieces + piece
    tl.store(peaks + at, tl.where(has_nan == 1, float("nan"), peak))
    tl.store(places + at, place)
    scale = scale_of(1.0)
    if IS_WARM:
        scale = scale_of(tl.load(temperature + tl.maximum(tl.load(rows + n), 0)))
    base = tl.where(peak > float("-inf"), peak, 0.0)
    masses = tl.reshape(tl.exp2((values - base) * scale), [PIECE // CHUNK, CHUNK])
    chunks = tl.arange(0, PIECE // CHUNK)
    tl.store(sums + at * (PIECE // CHUNK) + chunks, tl.sum(masses, 1))
    if LOG_BEST >= 0:
        own = tl.where(inside & is_number, key_of(values, tokens), NO_KEY)
        found = best(own, LOG_PIECE, LOG_BEST)
        tl.store(keys + at * 2**LOG_BEST + tl.arange(0, 2**LOG_BEST), found)
