"""Weights as a checkpoint would have them, for the linear methods."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat

# Format -> where float16 factors begin in a block, and the size of random ones: weights come out
# near 1. MXFP4 has an exponent.
_FACTORS: dict[WeightFormat, dict[int, float]] = {
    WeightFormat.Q4_0: {0: 0.1},
    WeightFormat.Q4_1: {0: 0.1, 2: 1.0},
    WeightFormat.Q5_0: {0: 0.05},
    WeightFormat.Q5_1: {0: 0.05, 2: 1.0},
    WeightFormat.Q8_0: {0: 0.01},
    WeightFormat.Q2_K: {80: 0.05, 82: 0.05},
    WeightFormat.Q3_K: {108: 0.01},
    WeightFormat.Q4_K: {0: 0.002, 2: 0.01},
    WeightFormat.Q5_K: {0: 0.001, 2: 0.01},
    WeightFormat.Q6_K: {208: 0.0003},
    WeightFormat.IQ4_NL: {0: 0.01},
    WeightFormat.MXFP4: {},
    WeightFormat.FP8: {},
    WeightFormat.Q8_MINS: {0: 0.01, 2: 0.3},
}


@dataclass(frozen=True, slots=True)
class Stored:
    """A StoredWeight: `weight`, and the blocks it was stored in. order: of their columns."""

    weight: Tensor
    quantized: QuantizedWeight | None = None
    order: Tensor | None = None

    @property
    def format(self) -> WeightFormat:
        return self.quantized.format if self.quantized else WeightFormat.DENSE

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.weight.shape
        return rows, columns

    def read(self) -> Tensor:
        return self.weight.clone()

    def read_quantized(self) -> QuantizedWeight:
        assert self.quantized is not None
        return self.quantized


def uneven_rows(count: int, width: int) -> Tensor:
    """Rows of bf16 [count, width] of whose groups of 32 some are larger: one in five, in each row
    others."""
    x = randn(count, width)
    groups = torch.arange(count)[:, None] + torch.arange(width // 32)
    return (x * (1 + 5 * (groups % 5 == 0)).repeat_interleave(32, dim=1)).bfloat16()


def randn(*shape: int, seed: int = 0) -> Tensor:
    """The same numbers for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantized_of(
    weight_format: WeightFormat, features: int, width: int, seed: int = 0, size: float = 1.0
) -> QuantizedWeight:
    """A random weight: any integers, and factors of a size at which weights are near `size`."""
    rng = np.random.default_rng(seed)
    num_blocks = width // weight_format.block_size
    shape = (features, num_blocks, weight_format.block_bytes)
    blocks = rng.integers(0, 256, shape, dtype=np.uint8)
    for offset, unit in _FACTORS[weight_format].items():
        factors = rng.normal(0, unit * size, (features, num_blocks, 1)).astype(np.float16)
        blocks[..., offset : offset + 2] = factors.view(np.uint8)
    if weight_format is WeightFormat.FP8:
        scales = rng.normal(0, 0.01 * size, (features, num_blocks, 1)).astype(np.float32)
        blocks[..., :4] = scales.view(np.uint8)
        blocks[..., 4:] &= 0xFE  # codes of 127 are NaN
    if weight_format is WeightFormat.MXFP4:
        power = round(math.log2(size))
        blocks[..., 0] = rng.integers(120 + power, 128 + power, (features, num_blocks))
    return QuantizedWeight(weight_format, blocks.reshape(features, -1))


def stored_of(weight_format: WeightFormat, features: int, width: int, seed: int = 0) -> Stored:
    """A random weight in a format."""
    if weight_format is WeightFormat.DENSE:
        return Stored(randn(features, width, seed=seed).bfloat16())
    return stored_in(quantized_of(weight_format, features, width, seed))


def stored_in(quantized: QuantizedWeight) -> Stored:
    """A weight that the file has in these blocks."""
    return Stored(quantized.to_dense().bfloat16(), quantized)
