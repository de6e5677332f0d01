"""Log-probabilities of raw logits on the device: of a token, its rank, and the best beside it."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from backend.ops.triton.best_keys import NO_KEY, logit_of, token_of
from backend.ops.triton.survey import CHUNK, masses_of, peaks_of, scale_of, survey

# The most that are given beside a token, rounded up to what is sorted.
NUM_BEST = 32


# int32 words of a row's scores.
WORDS = 2 + 2 * NUM_BEST + 1 + NUM_BEST


class Scores(NamedTuple):
    """Of N rows.

    logprobs: [N] float64. top_ids: [N, NUM_BEST] int32, the best in order, and top_logprobs:
    float64; -inf where a row has fewer. ranks: [N] int32, how many logits are greater than the
    token's.
    """

    logprobs: Tensor
    top_logprobs: Tensor
    ranks: Tensor
    top_ids: Tensor

    @classmethod
    def over(cls, words: Tensor) -> "Scores":
        """Return the scores that lie in words, [N * WORDS] int32, so that all of them are one
        copy to the host."""
        rows = len(words) // WORDS
        sizes = [2 * rows, 2 * rows * NUM_BEST, rows, rows * NUM_BEST]
        logprobs, top_logprobs, ranks, top_ids = words.split(sizes)
        return cls(
            logprobs.view(torch.float64),
            top_logprobs.view(torch.float64).view(rows, NUM_BEST),
            ranks,
            top_ids.view(rows, NUM_BEST),
        )

    def part(self, rows: slice) -> "Scores":
        """Return those of some rows."""
        return Scores(*(each[rows] for each in self))


def score(logits: Tensor, tokens: Tensor, scores: Scores) -> None:
    """Score one token a row. logits: [N, V] float32; tokens: [N] int32, below 0 counts as 0.

    scores: of the N rows, written.
    """
    num_rows, width = logits.shape
    if not num_rows:
        return
    found = survey(logits, tokens, None, NUM_BEST)
    num_pieces = found.peaks.shape[1]
    greater = torch.empty(num_rows, num_pieces, dtype=torch.int32, device=logits.device)
    per_piece = found.sums.shape[2]
    _count_greater[(num_rows, num_pieces)](
        logits, logits.stride(0), width, tokens, greater, PIECE=per_piece * CHUNK.value
    )
    _score[(num_rows,)](
        logits,
        logits.stride(0),
        tokens,
        found.peaks,
        found.sums,
        found.keys,
        greater,
        scores.logprobs,
        scores.ranks,
        scores.top_ids,
        scores.top_logprobs,
        num_pieces,
        PIECES=triton.next_power_of_2(num_pieces),
        PER_PIECE=per_piece,
        BEST=NUM_BEST,
    )


@triton.jit
def _count_greater(logits, row_stride, width, tokens, greater, PIECE: tl.constexpr):
    n, piece, num_pieces = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    chosen = tl.load(logits + n * row_stride + tl.maximum(tl.load(tokens + n), 0))
    places = piece * PIECE + tl.arange(0, PIECE)
    values = tl.load(logits + n * row_stride + places, mask=places < width, other=float("-inf"))
    tl.store(greater + n * num_pieces + piece, tl.sum((values > chosen).to(tl.int32), 0))


@triton.jit(do_not_specialize_on_alignment=["logprobs", "ranks", "top_ids", "top_logprobs"])
def _score(
    logits,
    row_stride,
    tokens,
    peaks,
    sums,
    keys,
    greater,
    logprobs,
    ranks,
    top_ids,
    top_logprobs,
    num_pieces,
    PIECES: tl.constexpr,
    PER_PIECE: tl.constexpr,
    BEST: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64)
    pieces = tl.arange(0, PIECES)
    _, peak, has_nan = peaks_of(peaks, n, num_pieces, PIECES)
    masses = masses_of(peaks, sums, n, num_pieces, peak, scale_of(1.0), PIECES, PER_PIECE)
    total = peak + tl.log(tl.sum(masses, 0))
    total = tl.where(has_nan == 1, float("nan"), total)
    chosen = tl.load(logits + n * row_stride + tl.maximum(tl.load(tokens + n), 0))
    tl.store(logprobs + n, chosen.to(tl.float64) - total)
    counts = tl.load(greater + n * num_pieces + pieces, mask=pieces < num_pieces, other=0)
    tl.store(ranks + n, tl.sum(counts, 0))
    places = tl.arange(0, BEST)
    best = tl.load(keys + n * BEST + places)
    values = tl.where(best == NO_KEY, float("-inf"), logit_of(best)).to(tl.float64)
    tl.store(top_ids + n * BEST + places, token_of(best))
    tl.store(top_logprobs + n * BEST + places, values - total)
