"""What decides a draw once the ranks have gathered; the same on all of them.

Numbers of one row or of a few: which candidates a filter keeps, where a draw falls among them, and
which rows have no token at all. Called by the sampler.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.step import FAULTY, NO_TOKEN

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Limits:
    """How one row is filtered; 0, 1 and 0 keep everything."""

    top_k: int
    top_p: float
    min_p: float


def keep(values: Floats, total: float, limits: Limits, vocab_size: int) -> Floats | None:
    """Return the weights of the kept candidates; None if some may be missing.

    values: scaled logits, descending. total: logsumexp over the whole vocabulary.
    """
    is_whole = len(values) == vocab_size
    weights = np.exp(values - total)
    if limits.top_k:
        if limits.top_k > len(weights) and not is_whole:
            return None
        weights = weights[: limits.top_k]
        weights = weights / weights.sum()
    cut_short = not limits.top_k and not is_whole
    count = len(weights)
    if limits.top_p < 1:
        reached = int(np.searchsorted(np.cumsum(weights), limits.top_p, side="left"))
        if reached < len(weights):
            count, cut_short = reached + 1, False
    if limits.min_p > 0:
        likely = int(np.count_nonzero(weights >= limits.min_p * weights[0]))
        if likely < len(weights):
            count, cut_short = min(count, likely), False
    return None if cut_short else weights[:count]


def invert(weights: Floats, draw: float) -> int:
    """Where a draw in [0, 1) falls in the cumulative mass of the kept candidates."""
    cumulative = np.cumsum(weights)
    place = int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))
    return min(place, len(weights) - 1)


def without_token(tokens: Ids, largest: Floats) -> Ids:
    """Mark the rows that no token can be drawn for, by their largest logit or their logsumexp."""
    tokens[~np.isfinite(largest)] = FAULTY
    tokens[np.isneginf(largest)] = NO_TOKEN
    return tokens


def settle_ties(scaled: Tensor, values: Tensor, ids: Tensor) -> None:
    """Where equals straddle the cut of a top-k, let the lowest ids in; `ids` is changed.

    torch.topk picks any of them, and logits of bfloat16 weights are often equal.
    """
    last = values[:, -1:]
    for row in torch.nonzero((scaled == last).sum(-1) > (values == last).sum(-1)).flatten():
        tied = values[row] == last[row]
        ids[row, tied] = torch.nonzero(scaled[row] == last[row]).flatten()[: int(tied.sum())]
