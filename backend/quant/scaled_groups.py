"""Small values and the scales of groups of them: what AWQ, GPTQ, compressed-tensors and fp8 hold.

Owns what they stand for, and how they become ggml's blocks where these can say the same.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from backend.quant.quantized_weight import QuantizedWeight, weight_of_fields
from backend.quant.rounding import BLOCK
from backend.quant.weight_format import WeightFormat

# Elements that become float32 at a time: the temporaries stay small however large the matrix is.
_CHUNK = 1 << 20
# The distance from a number to the nearest float16 is at most this part of it, unless it is below
# 6e-5, where float16 has fewer digits, or above 65504.
_HALF_STEP = 2.0**-11


@dataclass(frozen=True, slots=True)
class ScaledGroups:
    """w[n, k] = scales[n, groups[k]] * (values[n, k] - zeros[n, groups[k]]).

    values: [N, K] uint8, int8 or fp8. scales: float32 [N, G]. zeros: float32 [N, G]. groups: the
    group of each column, int64 [K].
    """

    values: Tensor
    scales: Tensor
    zeros: Tensor
    groups: Tensor

    def to_dense(self) -> Tensor:
        """Return the weight, float32 [N, K]."""
        out = torch.empty(self.values.shape)
        step = max(1, _CHUNK // max(1, out.shape[1]))
        for row in range(0, len(out), step):
            rows = slice(row, row + step)
            part = out[rows]
            part.copy_(self.values[rows])
            part.sub_(self.zeros[rows][:, self.groups])
            part.mul_(self.scales[rows][:, self.groups])
        return out

    def in_order(self, order: Tensor) -> "ScaledGroups":
        """Return it with its columns in an order of column_order.py's, of which whole blocks lie in
        one group."""
        # What fills a block up may be any column: no group begins with it.
        columns = order.clamp(max=len(self.groups) - 1).long()
        return ScaledGroups(self.values[:, columns], self.scales, self.zeros, self.groups[columns])

    def to_blocks(self, weight_format: WeightFormat) -> QuantizedWeight:
        """Return the weight in Q4_0, Q4_1, Q8_0, Q8_MINS or FP8, its values as they are.

        Each block of 32 columns must lie in one group. In Q4_0 and Q8_0 it stands for the same
        numbers if float16 has the scales; in Q4_1 the minimum -scale * zero is rounded to float16,
        so that a weight is off by up to 2^-11 of it: 0.007 scales at most. So it is in Q8_MINS,
        where values are centred first: 0.06 scales at most, and less the nearer zero is to it.
        """
        n, k = self.values.shape
        of_block = self.groups[::BLOCK]
        scales, zeros = self.scales[:, of_block, None], self.zeros[:, of_block, None]
        values = self.values.reshape(n, k // BLOCK, BLOCK)
        if weight_format is WeightFormat.FP8:
            return weight_of_fields(weight_format, scales, values)
        is_signed = values.dtype is torch.int8
        if weight_format is WeightFormat.Q8_MINS:
            mins = (-scales * (zeros if is_signed else zeros - 128)).half()
            centred = values if is_signed else values.view(torch.int8) ^ -128
            return weight_of_fields(weight_format, scales.half(), mins, centred)
        if weight_format is WeightFormat.Q8_0:
            centred = values if is_signed else values.view(torch.int8) ^ -128
            return weight_of_fields(weight_format, scales.half(), centred)
        if weight_format is WeightFormat.Q4_0:
            # A block's zero is 8; that of two bits is 2.
            low, high = (values + (8 - zeros).to(torch.uint8)).chunk(2, dim=-1)
            return weight_of_fields(weight_format, scales.half(), low | high << 4)
        if weight_format is WeightFormat.Q4_1:
            low, high = values.chunk(2, dim=-1)
            mins = (-scales * zeros).half()
            return weight_of_fields(weight_format, scales.half(), mins, low | high << 4)
        raise ValueError(f"integers of groups do not become {weight_format}")


def fits_half(scales: Tensor) -> bool:
    """Whether float16 has these to half a step, 2^-11 of each.

    Which is a quarter of what bfloat16 would take from the weights themselves. Scales of float16
    always do, those of bfloat16 unless they are below 2^-17.
    """
    scales = scales.float()
    return bool(((scales.half().float() - scales).abs() <= scales.abs() * _HALF_STEP).all())
