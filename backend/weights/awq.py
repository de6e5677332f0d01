"""Linears as AutoAWQ writes them (version gemm), and what writes the same.

    qweight [in, out * 4 / 32] int32   values, along the rows of the linear, in AWQ's order
    qzeros  [groups, out * 4 / 32]     zero points, likewise
    scales  [groups, out]

A weight is scale * (value - zero point).
"""

from torch import Tensor

from backend.quant.packed_integers import AWQ_ORDER, read_turned
from backend.weights.linear_parts import NamedParts


class AwqParts(NamedParts):
    """LinearParts of a linear of AWQ."""

    def values(self, rows: slice, cols: slice) -> Tensor:
        return read_turned(self.part("qweight"), cols, rows, self.bits, AWQ_ORDER)

    def scales(self, rows: slice, groups: slice) -> Tensor:
        scales: Tensor = self.part("scales")[groups, rows]
        return scales.T

    def zeros(self, rows: slice, groups: slice) -> Tensor | None:
        return read_turned(self.part("qzeros"), groups, rows, self.bits, AWQ_ORDER)
