"""A learned number for each head and distance, added to attention's scores (Raffel et al. 2020)."""

import math

import torch
from torch import Tensor

from backend.config.spec import RelativeBias
from backend.placement.sharding import Shard


class RelativeBiasTable:
    """This rank's heads of the table; all layers share it."""

    def __init__(self, table: Tensor, bias: RelativeBias, shard: Shard) -> None:
        """table: [rows, heads of all ranks]."""
        self._table = table[:, shard.heads]
        self._bias = bias

    def scores(self, num_tokens: int) -> Tensor:
        """Return what is added to the score of query i and key j, [H, L, L]."""
        places = torch.arange(num_tokens, device=self._table.device)
        buckets = distance_buckets(places - places[:, None], self._bias)  # [L, L]
        return self._table[buckets].permute(2, 0, 1)


def distance_buckets(distances: Tensor, bias: RelativeBias) -> Tensor:
    """Return the bucket of each distance: the key's place less the query's."""
    half = bias.num_buckets // 2
    num_exact = half // 2
    steps = distances.abs()
    growth = math.log(bias.max_distance / num_exact)
    logarithm = torch.log(steps.clamp(min=1).float() / num_exact) / growth
    grown = num_exact + (logarithm * (half - num_exact)).long()
    buckets = torch.where(steps < num_exact, steps, grown.clamp(max=half - 1))
    return buckets + half * (distances > 0)
