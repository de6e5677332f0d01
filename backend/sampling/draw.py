"""What decides a draw once the ranks have gathered; the same on all of them.

All rows at once: which candidates the filters keep, where a draw falls among them, and which rows
have no token at all. Called by the sampler.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.step import FAULTY, NO_TOKEN

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SamplingFilters:
    """How each of N rows is filtered, three of [N]; 0, 1 and 0 keep everything."""

    top_k: Ids
    top_p: Floats
    min_p: Floats

    def row(self, n: int) -> "SamplingFilters":
        """Return those of one row."""
        one = slice(n, n + 1)
        return SamplingFilters(self.top_k[one], self.top_p[one], self.min_p[one])


def draw_filtered(
    values: Floats, totals: Floats, filters: SamplingFilters, draws: Floats, vocab_size: int
) -> tuple[Ids, Flags]:
    """Draw one of the candidates a row's filters keep: the inverse of their cumulative mass.

    values: scaled logits [N, K], descending. totals: [N], logsumexp over the whole vocabulary, not
    read where a row has a top_k. draws: [N], in [0, 1). Returns the places [N] among the K, and
    which rows may have lost some they should keep, their places to be ignored.
    """
    n, width = values.shape
    is_whole = width == vocab_size
    has_top_k = filters.top_k > 0
    counts = np.where(has_top_k, np.minimum(filters.top_k, width), width)
    is_short = (filters.top_k > width) & (not is_whole)
    is_open = ~has_top_k & (not is_whole)  # the last candidate is not known to be the last kept

    weights = np.exp(values - np.where(has_top_k, values[:, 0], totals)[:, None])
    weights[np.arange(width) >= counts[:, None]] = 0
    cumulative = np.cumsum(weights, axis=1)
    # With a top_k, shares are of its own mass; without one, of everything.
    whole = np.where(has_top_k, cumulative[:, -1], 1.0)

    reached = (cumulative < (filters.top_p * whole)[:, None]).sum(axis=1)
    cuts = (filters.top_p < 1) & (reached < counts)
    counts = np.where(cuts, reached + 1, counts)
    likely = (weights >= (filters.min_p * weights[:, 0])[:, None]).sum(axis=1)
    drops = (filters.min_p > 0) & (likely < width)
    counts = np.where(drops, np.minimum(counts, likely), counts)

    kept = cumulative[np.arange(n), counts - 1]
    places = (cumulative <= (draws * kept)[:, None]).sum(axis=1)
    return np.minimum(places, counts - 1), is_short | (is_open & ~cuts & ~drops)


def without_token(tokens: Ids, largest: Floats) -> Ids:
    """Mark the rows that no token can be drawn for, by their largest logit or their logsumexp."""
    is_finite = np.isfinite(largest)
    if is_finite.all():
        return tokens
    tokens[~is_finite] = FAULTY
    tokens[np.isneginf(largest)] = NO_TOKEN
    return tokens
