"""A learned number for each head and distance, added to attention's scores (Raffel et al. 2020)."""

import torch
from torch import Tensor

from backend.config.spec import RelativeBias
from backend.layers.position_bias import buckets
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
        found = buckets(places - places[:, None], self._bias, both_ways=True)  # [L, L]
        return self._table[found].permute(2, 0, 1)
