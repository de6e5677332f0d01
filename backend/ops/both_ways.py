"""Attention of whole inputs in which each token sees all others: what encoders do.

Nothing is cached. An input is computed by itself, in tiles whose shapes follow from its length, so
that what else is in the batch changes nothing.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from backend.ops.paged import MAX_TILE, MIN_TILE, TILE_SCORES
from backend.ops.score_bias import ScoreBias


def attend_both_ways(
    qkv: Tensor, starts: Sequence[int], scale: float, bias: ScoreBias | None = None
) -> Tensor:
    """softmax(scale q keys + bias) values, input by input.

    qkv: [X, 3 H, D], queries, keys and values of all inputs. starts: [E + 1], where each begins.
    Returns [X, H, D].
    """
    queries, keys, values = qkv.view(len(qkv), 3, -1, qkv.shape[-1]).unbind(1)
    out = torch.empty_like(queries)
    for start, stop in itertools.pairwise(starts):
        rows = slice(start, stop)
        # [L, H, D] -> [H, L, D]
        q, k, v = (part[rows].transpose(0, 1) for part in (queries, keys, values))
        for tile in _tiles(stop - start, len(q)):
            scores = torch.bmm(q[:, tile], k.transpose(1, 2)) * scale
            if bias is not None:
                places = torch.arange(stop - start, device=qkv.device)
                scores = scores + bias.at(places - places[tile, None])
            out[rows][tile] = torch.bmm(scores.softmax(-1), v).transpose(0, 1)
    return out


def _tiles(length: int, num_heads: int) -> list[slice]:
    """Cut an input's queries, so that the scores of all heads stay few."""
    size = max(MIN_TILE, min(MAX_TILE, TILE_SCORES // (length * num_heads)))
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
