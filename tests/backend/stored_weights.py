"""Weights as a checkpoint would have them, for the linear methods."""

from dataclasses import dataclass

import torch
from torch import Tensor

from backend.quant.quantized_weight import GROUP_SIZE, QuantizedWeight, quantize


@dataclass(frozen=True, slots=True)
class Stored:
    """A StoredWeight: `weight`, and the groups it was stored in."""

    weight: Tensor
    groups: QuantizedWeight | None = None

    def read(self) -> Tensor:
        return self.weight.clone()

    def read_quantized(self) -> QuantizedWeight | None:
        return self.groups


def randn(*shape: int, seed: int = 0) -> Tensor:
    """The same numbers for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def groups_of(bits: int, features: int, width: int) -> QuantizedWeight:
    """A random weight in groups of 4 or 8 bits."""
    if bits == 4:
        return quantize(randn(features, width))
    generator = torch.Generator().manual_seed(1)
    values = torch.randint(-128, 128, (features, width), generator=generator).to(torch.int8)
    return QuantizedWeight(values, randn(features, width // GROUP_SIZE).half().float(), None)


def stored_of(bits: int, features: int, width: int) -> Stored:
    """A weight in groups of 4 or 8 bits, or of 16 bits and in none."""
    if bits == 16:
        return Stored(randn(features, width).bfloat16())
    return stored_in(groups_of(bits, features, width))


def stored_in(groups: QuantizedWeight) -> Stored:
    """A weight that the file has in these groups."""
    return Stored(groups.to_dense().bfloat16(), groups)
