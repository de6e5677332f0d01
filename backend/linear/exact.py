"""Dense weights, multiplied in tiles of a fixed number of rows: exact mode's linear.

A matrix product's kernel, and with it the order of its sums, follows from the shape. With the rows
always cut into tiles of one size, zero-padded, a row's result is the same in any batch, provided
that it does not depend on its place in the tile. That is checked for each weight when it is packed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.linear.onednn import DenseMethod
from backend.quant.stored import StoredWeight

TILE = 16


class ExactMethod(DenseMethod):
    """A LinearMethod. Uses the largest tile that treats all its rows alike on this machine."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(dtype, device)
        self._tiles: dict[torch.Size, int] = {}

    def pack(self, stored: StoredWeight) -> Tensor:
        weight = stored.read()
        width = weight.shape[1]
        packed = self.pack_dense(weight)
        shape = torch.Size((width,)) + packed.shape
        if shape not in self._tiles:
            self._tiles[shape] = self._find_tile(width, packed)
        return packed

    def apply(self, x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        tile = self._tiles[torch.Size((x.shape[1],)) + packed.shape]
        rows = len(x)
        padded = F.pad(x, (0, 0, 0, -rows % tile))
        parts = [super(ExactMethod, self).apply(p, packed, bias) for p in torch.split(padded, tile)]
        return torch.cat(parts)[:rows]

    def _find_tile(self, width: int, packed: Tensor) -> int:
        for tile in (TILE, 4, 1):
            if self._rows_alike(width, packed, tile):
                return tile
        raise RuntimeError("one row is always like itself")

    def _rows_alike(self, width: int, packed: Tensor, tile: int) -> bool:
        """Whether the same row gives the same bits in every place of a tile of others."""
        generator = torch.Generator().manual_seed(0)
        row = torch.randn(1, width, generator=generator).to(packed.device)
        results = []
        for place in range(tile):
            x = torch.randn(tile, width, generator=generator).to(packed.device)
            x[place] = row
            out = super().apply(x.to(packed.dtype), packed, None)
            results.append(out[place])
        return all(torch.equal(result, results[0]) for result in results)
