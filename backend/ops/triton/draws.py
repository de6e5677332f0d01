"""One token a row, drawn on the device: what sampling/draw.py and sampling/sampler.py do.

A program has one row. Masses of what filters keep are added as integers, 2^-52 of the largest each,
so that a row's sums are the same however many of its tokens are looked at.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from backend.ops.triton.best_keys import NO_KEY, logit_of, token_of
from backend.ops.triton.flat_draws import draw_flat
from backend.ops.triton.philox import uniform
from backend.ops.triton.row_settings import RowSettings
from backend.ops.triton.survey import CHUNK, Survey, masses_of, peaks_of, scale_of
from backend.step import FAULTY, NO_TOKEN

_FAULTY: tl.constexpr = tl.constexpr(FAULTY)
_NO_TOKEN: tl.constexpr = tl.constexpr(NO_TOKEN)
# The share of a whole that a mass of 1 is.
_ONE: tl.constexpr = tl.constexpr(2.0**52)


def draw(
    logits: Tensor, found: Survey, settings: RowSettings, rows: Tensor, positions: Tensor
) -> Tensor:
    """Return a token for each row of logits, [N] int32, or NO_TOKEN or FAULTY.

    logits: [N, V] float32, as surveyed. rows: [N] int32, into the settings; -1: a padding row,
    which draws 0. positions: [N] int32, of the output. Where rows have filters, the survey has the
    best K; a row that needs more is drawn exactly all the same, and slowly.
    """
    num_rows, width = logits.shape
    tokens = torch.empty(num_rows, dtype=torch.int32, device=logits.device)
    if not num_rows:
        return tokens
    count = found.keys.shape[1]
    is_short = torch.empty(num_rows if count else 0, dtype=torch.int32, device=logits.device)
    num_pieces = found.peaks.shape[1]
    _draw[(num_rows,)](
        logits,
        logits.stride(0),
        width,
        found.peaks,
        found.places,
        found.sums,
        found.keys,
        rows,
        positions,
        *settings,
        tokens,
        is_short,
        num_pieces,
        PIECES=triton.next_power_of_2(num_pieces),
        PER_PIECE=found.sums.shape[2],
        BEST=count,
    )
    if 0 < count < width:
        draw_flat(logits, found.peaks, settings, rows, positions, is_short, tokens)
    return tokens


@triton.jit
def _find(cumulative, total, fraction, places):
    """Invert masses at a fraction of them: the piece where it falls, and how far into that.

    cumulative: float64. The last piece that has any mass takes what rounding puts at the total.
    """
    last = tl.sum((cumulative < total).to(tl.int32), 0)
    target = fraction * total
    piece = tl.minimum(tl.sum((cumulative <= target).to(tl.int32), 0), last)
    start = tl.sum(tl.where(places == piece - 1, cumulative, 0.0), 0)
    end = tl.sum(tl.where(places == piece, cumulative, 0.0), 0)
    share = (target - start) / (end - start)
    return piece, tl.minimum(tl.maximum(share, 0.0), 1.0 - 1.1102230246251565e-16)


@triton.jit(do_not_specialize_on_alignment=["rows", "positions"])
def _draw(
    logits,
    row_stride,
    width,
    peaks,
    places,
    sums,
    keys,
    rows,
    positions,
    temperature,
    top_k,
    top_p,
    min_p,
    seeds,
    choices,
    tokens,
    is_short,
    num_pieces,
    PIECES: tl.constexpr,
    PER_PIECE: tl.constexpr,
    BEST: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + n)
    if BEST > 0:
        tl.store(is_short + n, 0)
    if row < 0:
        tl.store(tokens + n, 0)
        return
    heat = tl.load(temperature + row)
    pieces = tl.arange(0, PIECES)
    is_piece = pieces < num_pieces
    of_pieces, peak, has_nan = peaks_of(peaks, n, num_pieces, PIECES)
    if (has_nan == 1) | (peak == float("inf")) | (heat < 0.0):
        tl.store(tokens + n, _FAULTY)
        return
    if peak == float("-inf"):
        tl.store(tokens + n, _NO_TOKEN)
        return
    if heat == 0.0:
        first = tl.load(places + n * num_pieces + pieces, mask=is_piece, other=0x7FFFFFFF)
        tl.store(tokens + n, tl.min(tl.where(of_pieces == peak, first, 0x7FFFFFFF), 0))
        return
    draw = uniform(
        tl.load(seeds + row), tl.load(choices + row), tl.load(positions + n).to(tl.int64)
    )
    chunks = tl.arange(0, PIECES * PER_PIECE)
    masses = masses_of(peaks, sums, n, num_pieces, peak, scale_of(heat), PIECES, PER_PIECE)
    cumulative = tl.cumsum(masses, 0)
    total = tl.max(cumulative, 0)
    most = tl.load(top_k + row)
    share, least = tl.load(top_p + row), tl.load(min_p + row)
    if (most == 0) & (share >= 1.0) & (least <= 0.0):
        chunk, fraction = _find(cumulative, total, draw, chunks)
        inside = tl.arange(0, CHUNK)
        ids = chunk * CHUNK + inside
        values = tl.load(logits + n * row_stride + ids, mask=ids < width, other=float("-inf")).to(
            tl.float64
        )
        in_chunk = tl.cumsum(tl.exp((values - peak) / heat), 0)
        place, _ = _find(in_chunk, tl.max(in_chunk, 0), fraction, inside)
        tl.store(tokens + n, chunk * CHUNK + place)
    elif BEST > 0:
        whole = peak / heat + tl.log(total)
        token, short = _draw_filtered(
            keys + n * BEST, width, heat, whole, most, share, least, draw, BEST
        )
        tl.store(tokens + n, token)
        tl.store(is_short + n, short.to(tl.int32))


@triton.jit
def _draw_filtered(keys, width, heat, whole, most, share, least, draw, BEST: tl.constexpr):
    """See `draw_filtered` of sampling/draw.py. Returns a token, and whether it may be wrong."""
    places = tl.arange(0, BEST)
    best = tl.load(keys + places)
    count = tl.minimum(width, BEST)
    has_most = most > 0
    is_all = width <= BEST
    counts = tl.where(has_most, tl.minimum(most, count), count)
    scaled = tl.where(best == NO_KEY, float("-inf"), logit_of(best)).to(tl.float64) / heat
    first = tl.sum(tl.where(places == 0, scaled, 0.0), 0)
    weights = tl.exp(scaled - tl.where(has_most, first, whole))
    weights = tl.where(places < counts, weights, 0.0)
    cumulative = tl.cumsum((weights * _ONE).to(tl.int64), 0).to(tl.float64)
    of_all = tl.where(has_most, tl.max(cumulative, 0), _ONE)
    reached = tl.sum((cumulative < share * of_all).to(tl.int64), 0)
    cuts = (share < 1.0) & (reached < counts)
    counts = tl.where(cuts, reached + 1, counts)
    lightest = least * tl.sum(tl.where(places == 0, weights, 0.0), 0)
    likely = tl.sum((weights >= lightest).to(tl.int64), 0)
    drops = (least > 0.0) & (likely < count)
    counts = tl.where(drops, tl.minimum(counts, likely), counts)
    kept = tl.sum(tl.where(places == counts - 1, cumulative, 0.0), 0)
    place = tl.sum((cumulative <= draw * kept).to(tl.int64), 0)
    place = tl.minimum(place, counts - 1)
    token = tl.sum(tl.where(places == place, token_of(best), 0), 0)
    is_short = ((most > count) | ((most == 0) & (cuts == 0) & (drops == 0))) & (is_all == 0)
    return token, is_short
