"""Linears as compressed-tensors writes them; those of fp8 directories lie like its plain ones.

pack-quantized:

    weight_packed     [out, in * bits / 32] int32   values, along the columns
    weight_scale      [out, groups]
    weight_zero_point [out * bits / 32, groups]     zero points, along the rows; old files have
                                                    them unpacked, int8 [out, groups] around 0
    weight_g_idx      [in]                          the group of each column; absent: in order

int-quantized, float-quantized and DeepSeek's fp8:

    weight            [out, in] int8 or float8_e4m3
    weight_scale      one for all, for each row, group or block: [out / rows, in / columns];
                      weight_scale_inv of fp8 directories is the same, and is multiplied too
    weight_zero_point the same shape, int8

A weight is scale * (value - zero point).
"""

import torch
from torch import Tensor

from backend.config.quantized_linears import StoredLinear
from backend.quant.packed_integers import read_columns, read_rows
from backend.weights.linear_parts import NamedParts, OpenTensor


class PackedParts(NamedParts):
    """LinearParts of a linear of pack-quantized."""

    def values(self, rows: slice, cols: slice) -> Tensor:
        return read_columns(self.part("weight_packed"), rows, cols, self.bits)

    def scales(self, rows: slice, groups: slice) -> Tensor:
        return _of_blocks(self, "weight_scale", rows, groups)

    def zeros(self, rows: slice, groups: slice) -> Tensor | None:
        stored = self.linear.parts.get("weight_zero_point")
        if stored is None:
            return None
        if stored.dtype == "I32":
            return read_rows(self.part("weight_zero_point"), rows, groups, self.bits)
        return _of_blocks(self, "weight_zero_point", rows, groups).short() + self.middle


class PlainParts(NamedParts):
    """LinearParts of a linear of int-quantized, float-quantized or fp8."""

    def __init__(self, linear: StoredLinear, opened: OpenTensor) -> None:
        super().__init__(linear, opened)
        self.middle = 0

    def values(self, rows: slice, cols: slice) -> Tensor:
        values: Tensor = self.part("weight")[rows, cols]
        return values

    def scales(self, rows: slice, groups: slice) -> Tensor:
        return _of_blocks(self, self.linear.scale, rows, groups)

    def zeros(self, rows: slice, groups: slice) -> Tensor | None:
        if "weight_zero_point" not in self.linear.parts:
            return None
        return _of_blocks(self, "weight_zero_point", rows, groups)


def _of_blocks(parts: NamedParts, name: str, rows: slice, groups: slice) -> Tensor:
    """Return what rows of blocks have, for each row of the linear, [rows, groups]."""
    (n, _), (block_rows, block_columns) = parts.linear.shape, parts.linear.scale_block
    num_groups = -(-parts.linear.shape[1] // block_columns)
    whole: Tensor = parts.part(name)[...]
    whole = whole.reshape(-(-n // block_rows), num_groups)
    return whole[torch.arange(rows.start, rows.stop) // block_rows][:, groups]
