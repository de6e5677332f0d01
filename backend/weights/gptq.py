"""Linears as AutoGPTQ and GPTQModel write them, versions 1 and 2.

    qweight [in * bits / 32, out] int32    values, along the columns of the linear
    qzeros  [groups, out * bits / 32]      zero points, along its rows; of version 1 less one
    scales  [groups, out]
    g_idx   [in]                           the group of each column; absent: in order

A weight is scale * (value - zero point).
"""

from torch import Tensor

from backend.quant.packed_integers import read_rows, read_turned
from backend.weights.linear_parts import NamedParts


class GptqParts(NamedParts):
    """LinearParts of a linear of GPTQ."""

    def values(self, rows: slice, cols: slice) -> Tensor:
        return read_rows(self.part("qweight"), cols, rows, self.bits).T

    def scales(self, rows: slice, groups: slice) -> Tensor:
        scales: Tensor = self.part("scales")[groups, rows]
        return scales.T

    def zeros(self, rows: slice, groups: slice) -> Tensor | None:
        stored = read_turned(self.part("qzeros"), groups, rows, self.bits)
        # One less than 0 is the largest value, in version 1 (AutoGPTQ masks the sum as well).
        return (stored + self.linear.scheme.zero_offset).bitwise_and_((1 << self.bits) - 1)
