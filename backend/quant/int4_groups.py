"""Blocks of Q4_0 and Q4_1 taken apart, for kernels that want values, scales and minimums."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat


class Int4Groups(NamedTuple):
    """w = scale * value + minimum.

    values: uint8 [N, K], 0 to 15. scales, mins: float32 [N, K / 32].
    """

    values: Tensor
    scales: Tensor
    mins: Tensor


def unpack_int4(weight: QuantizedWeight) -> Int4Groups:
    """Take a weight of Q4_0 or Q4_1 apart."""
    num_factors = 1 if weight.format is WeightFormat.Q4_0 else 2
    blocks = weight.blocks.reshape(len(weight.blocks), -1, weight.format.block_bytes)
    factors = np.ascontiguousarray(blocks[..., : 2 * num_factors]).view(np.float16)
    scales, *rest = np.moveaxis(factors.astype(np.float32), -1, 0)
    mins = rest[0] if rest else -8 * scales
    packed = blocks[..., 2 * num_factors :]
    values = np.concatenate((packed & 15, packed >> 4), axis=-1).reshape(len(blocks), -1)
    return Int4Groups(*(torch.from_numpy(part) for part in (values, scales, mins)))
