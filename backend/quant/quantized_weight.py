"""Matrices of small integers, 32 columns to a group: w = scale * value + minimum.

The form of GGUF's Q4_0 and Q4_1, without mins that of Q8_0, and what dense weights are rounded
to where the operator asks for it. Files hold scales and mins as float16.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from backend.quant.weight_format import WeightFormat

GROUP_SIZE = 32
MAX_VALUE = 15
MAX_INT8 = 127


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """4 bits: values uint8 [N, K], 0 to 15; 8 bits: int8, and no mins.

    scales, mins: float32 [N, K / GROUP_SIZE], exact in float16.
    """

    values: Tensor
    scales: Tensor
    mins: Tensor | None

    @property
    def format(self) -> WeightFormat:
        return WeightFormat.Q8 if self.values.dtype == torch.int8 else WeightFormat.Q4

    @property
    def bits(self) -> int:
        return 8 if self.format is WeightFormat.Q8 else 4

    def to_dense(self) -> Tensor:
        """Return the weight, float32 [N, K]."""
        dense = self.values.float().view(*self.scales.shape, GROUP_SIZE) * self.scales[..., None]
        if self.mins is not None:
            dense += self.mins[..., None]
        return dense.flatten(1)


def concatenate(parts: list[QuantizedWeight]) -> QuantizedWeight | None:
    """Stack matrices of the same width; None if they are of different bits."""
    if len({part.bits for part in parts}) > 1:
        return None
    mins = [part.mins for part in parts if part.mins is not None]
    return QuantizedWeight(
        torch.cat([part.values for part in parts]),
        torch.cat([part.scales for part in parts]),
        torch.cat(mins) if mins else None,
    )


def quantize(weight: Tensor) -> QuantizedWeight:
    """Round a weight [N, K], K a multiple of GROUP_SIZE, to the nearest values of 4 bits.

    Asymmetric: each group's range on 0..15.
    """
    grouped = weight.float().view(len(weight), -1, GROUP_SIZE)
    mins, maxs = grouped.amin(-1), grouped.amax(-1)
    scales = ((maxs - mins) / MAX_VALUE).half().float()
    mins = mins.half().float()
    steps = torch.where(scales > 0, scales, 1)
    values = ((grouped - mins[..., None]) / steps[..., None]).round_().clamp_(0, MAX_VALUE)
    return QuantizedWeight(values.to(torch.uint8).flatten(1), scales, mins)


def quantize_int8(weight: Tensor) -> QuantizedWeight:
    """Round a weight [N, K], K a multiple of GROUP_SIZE, to the nearest values of 8 bits."""
    grouped = weight.float().view(len(weight), -1, GROUP_SIZE)
    scales = (grouped.abs().amax(-1) / MAX_INT8).half().float()
    steps = torch.where(scales > 0, scales, 1)
    values = (grouped / steps[..., None]).round_().clamp_(-MAX_INT8, MAX_INT8)
    return QuantizedWeight(values.to(torch.int8).flatten(1), scales, None)
