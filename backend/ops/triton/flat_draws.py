"""Draws from rows so flat that their best tokens hold too little: exact over all, without sorting.

Tokens in order of their logits are counted by level: a logit's bits, of which eight readings of the
row find four at a time those where a wanted mass is reached. A program has one row, and ends at
once if it is not asked. Masses are integers, 2^-44 of the largest each, so their order is nothing.
"""

import triton
import triton.language as tl
from torch import Tensor

from backend.ops.triton.philox import uniform
from backend.ops.triton.row_settings import RowSettings
from backend.ops.triton.survey import peaks_of, scale_of

# Tokens read at once, and the levels they are compared with.
_BLOCK: tl.constexpr = tl.constexpr(1024)
_LEVELS: tl.constexpr = tl.constexpr(16)
_ONE: tl.constexpr = tl.constexpr(2.0**44)


def draw_flat(
    logits: Tensor,
    peaks: Tensor,
    settings: RowSettings,
    rows: Tensor,
    positions: Tensor,
    is_short: Tensor,
    tokens: Tensor,
) -> None:
    """Write the tokens of rows that are short; see `draw`."""
    num_rows, width = logits.shape
    num_pieces = peaks.shape[1]
    _draw_flat[(num_rows,)](
        logits,
        logits.stride(0),
        width,
        peaks,
        rows,
        positions,
        *settings,
        is_short,
        tokens,
        num_pieces,
        PIECES=triton.next_power_of_2(num_pieces),
        num_warps=8,
    )


@triton.jit
def _read(row, width, start, peak, scale):
    """Return the levels and masses of some tokens, both int64; behind the end -1 and 0."""
    tokens = start + tl.arange(0, _BLOCK)
    inside = tokens < width
    values = tl.load(row + tokens, mask=inside, other=float("-inf"))
    bits = tl.where(values == 0.0, 0.0, values).to(tl.int32, bitcast=True)
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64) + 2147483648
    masses = (tl.exp2((values - peak) * scale).to(tl.float64) * _ONE).to(tl.int64)
    return tl.where(inside, ordered, -1), tl.where(inside, masses, 0)


@triton.jit
def _level(row, width, peak, scale, target, BY_COUNT: tl.constexpr):
    """Find the highest level such that tokens at it and above have a mass, or count, of `target`.

    Returns it, and the mass and count of what is above it.
    """
    level = target * 0
    mass_above, count_above = target * 0, target * 0
    digits = tl.arange(0, _LEVELS)
    for step in tl.static_range(8):
        levels = level + (digits.to(tl.int64) << (28 - 4 * step))
        masses = tl.zeros([_LEVELS], tl.int64)
        counts = tl.zeros([_LEVELS], tl.int64)
        for start in range(0, width, _BLOCK):
            of_tokens, weights = _read(row, width, start, peak, scale)
            is_in = of_tokens[:, None] >= levels[None, :]
            masses += tl.sum(tl.where(is_in, weights[:, None], 0), 0)
            counts += tl.sum(is_in.to(tl.int64), 0)
        if BY_COUNT:
            reaches = counts >= target
        else:
            reaches = masses >= target
        # The lowest always reaches it, as did the level it goes on from.
        digit = tl.maximum(tl.sum(reaches.to(tl.int32), 0) - 1, 0)
        level += digit.to(tl.int64) << (28 - 4 * step)
        if digit < _LEVELS - 1:
            mass_above = tl.sum(tl.where(digits == digit + 1, masses, 0), 0)
            count_above = tl.sum(tl.where(digits == digit + 1, counts, 0), 0)
    return level, mass_above, count_above


@triton.jit
def _mass_at(level, peak, scale):
    """Return the mass of one token at a level."""
    ordered = (level - 2147483648).to(tl.int32)
    value = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    return (tl.exp2((value - peak) * scale).to(tl.float64) * _ONE).to(tl.int64)


@triton.jit
def _total(row, width, peak, scale, least):
    """Return the mass of all tokens that have at least so much."""
    total = tl.zeros([_BLOCK], tl.int64)
    for start in range(0, width, _BLOCK):
        _, weights = _read(row, width, start, peak, scale)
        total += tl.where(weights >= least, weights, 0)
    return tl.sum(total, 0)


@triton.jit(do_not_specialize_on_alignment=["rows", "positions"])
def _draw_flat(
    logits,
    row_stride,
    width,
    peaks,
    rows,
    positions,
    temperature,
    top_k,
    top_p,
    min_p,
    seeds,
    choices,
    is_short,
    tokens,
    num_pieces,
    PIECES: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64)
    if tl.load(is_short + n) == 0:
        return
    row = tl.load(rows + n)
    of_row = logits + n * row_stride
    peak = peaks_of(peaks, n, num_pieces, PIECES)[1]
    scale = scale_of(tl.load(temperature + row))
    most = tl.load(top_k + row)
    whole = _total(of_row, width, peak, scale, 0)
    if (most > 0) & (most < width):
        level, above, count = _level(of_row, width, peak, scale, most, True)
        whole = above + (most - count) * _mass_at(level, peak, scale)
    kept = whole
    share = tl.load(top_p + row)
    if share < 1.0:
        target = tl.maximum(tl.ceil(share * whole.to(tl.float64)).to(tl.int64), 1)
        level, above, count = _level(of_row, width, peak, scale, target, False)
        each = _mass_at(level, peak, scale)
        kept = tl.minimum(kept, above + tl.cdiv(target - above, each) * each)
    least = tl.load(min_p + row)
    if least > 0.0:
        lightest = tl.ceil(least * _ONE).to(tl.int64)
        kept = tl.minimum(kept, _total(of_row, width, peak, scale, lightest))
    draw = uniform(
        tl.load(seeds + row), tl.load(choices + row), tl.load(positions + n).to(tl.int64)
    )
    target = tl.minimum((draw * kept.to(tl.float64)).to(tl.int64) + 1, kept)
    level, above, count = _level(of_row, width, peak, scale, target, False)
    wanted = tl.cdiv(target - above, _mass_at(level, peak, scale))
    # Among equals the lowest tokens come first: the so-manyth of them.
    token, before = wanted * 0, wanted * 0
    for start in range(0, width, _BLOCK):
        of_tokens, _ = _read(of_row, width, start, peak, scale)
        is_equal = (of_tokens == level).to(tl.int64)
        order = before + tl.cumsum(is_equal, 0)
        ids = (start + tl.arange(0, _BLOCK)).to(tl.int64)
        token += tl.sum(tl.where((is_equal == 1) & (order == wanted), ids, 0), 0)
        before += tl.sum(is_equal, 0)
    tl.store(tokens + n, token.to(tl.int32))
