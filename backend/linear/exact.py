"""Dense weights, multiplied in tiles of a fixed number of rows: exact mode's linear.

A GEMM's kernel, and with it the order of its sums, follows from the shape. With the rows always cut
into tiles of one size, zero-padded, a row's result is the same in any batch, provided that it does
not depend on its place in the tile. That is checked for each weight when it is packed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.linear.kernel import LinearKernel
from backend.linear.onednn import OneDnnKernel

TILE = 16


class ExactKernel(LinearKernel[Tensor, Tensor]):
    """Uses the largest tile that treats all its rows alike on this machine."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._onednn = OneDnnKernel(dtype, device)
        self._tiles: dict[torch.Size, int] = {}

    def pack(self, weight: Tensor) -> Tensor:
        k = weight.shape[1]
        packed = self._onednn.pack(weight)
        shape = torch.Size((k,)) + packed.shape
        if shape not in self._tiles:
            self._tiles[shape] = self._find_tile(k, packed)
        return packed

    def size_bytes(self, packed: Tensor) -> int:
        return self._onednn.size_bytes(packed)

    def apply(self, x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        tile = self._tiles[torch.Size((x.shape[1],)) + packed.shape]
        rows = len(x)
        padded = F.pad(x, (0, 0, 0, -rows % tile))
        parts = [self._onednn.apply(part, packed, bias) for part in torch.split(padded, tile)]
        return torch.cat(parts)[:rows]

    def _find_tile(self, k: int, packed: Tensor) -> int:
        for tile in (TILE, 4, 1):
            if self._rows_alike(k, packed, tile):
                return tile
        raise RuntimeError("one row is always like itself")

    def _rows_alike(self, k: int, packed: Tensor, tile: int) -> bool:
        """Whether the same row gives the same bits in every place of a tile of others."""
        generator = torch.Generator().manual_seed(0)
        row = torch.randn(1, k, generator=generator).to(packed.device)
        results = []
        for place in range(tile):
            x = torch.randn(tile, k, generator=generator).to(packed.device)
            x[place] = row
            out = self._onednn.apply(x.to(packed.dtype), packed, None)
            results.append(out[place])
        return all(torch.equal(result, results[0]) for result in results)
