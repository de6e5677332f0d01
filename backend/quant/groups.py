"""Matrices of 4-bit integers, 32 columns to a group: w = scale * value + minimum.

The form of GGUF's Q4_0 and Q4_1, and what dense weights are rounded to where the operator asks for
it: asymmetric round-to-nearest, each group's range on 0..15.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

GROUP_SIZE = 32
MAX_VALUE = 15


@dataclass(frozen=True, slots=True)
class Groups:
    """values: uint8 [N, K], 0 to 15. scales, minimums: float32 [N, K / GROUP_SIZE]."""

    values: Tensor
    scales: Tensor
    minimums: Tensor

    def to_dense(self) -> Tensor:
        """Return the weight, float32 [N, K]."""
        grouped = self.values.float().view(*self.scales.shape, GROUP_SIZE)
        return (grouped * self.scales[..., None] + self.minimums[..., None]).flatten(1)


def concatenate(parts: list[Groups]) -> Groups:
    """Stack matrices of the same width."""
    return Groups(
        torch.cat([part.values for part in parts]),
        torch.cat([part.scales for part in parts]),
        torch.cat([part.minimums for part in parts]),
    )


def quantize(weight: Tensor) -> Groups:
    """Round a weight [N, K], K a multiple of GROUP_SIZE, to the nearest values."""
    grouped = weight.float().view(len(weight), -1, GROUP_SIZE)
    minimums, maximums = grouped.amin(-1), grouped.amax(-1)
    scales = (maximums - minimums) / MAX_VALUE
    steps = torch.where(scales > 0, scales, 1)
    values = ((grouped - minimums[..., None]) / steps[..., None]).round_().to(torch.uint8)
    return Groups(values.flatten(1), scales, minimums)
