"""Planes say what the file's blocks say, in hardly more bytes."""

import pytest
import torch

from backend.linear.triton.repack import repack
from backend.quant.planes import PLANES, places_of
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat
from tests.backend.stored_weights import quantized_of

CPU = torch.device("cpu")


@pytest.mark.parametrize("weight_format", PLANES)
def test_planes_take_hardly_more_than_the_file(weight_format: WeightFormat) -> None:
    weight = quantized_of(weight_format, 40, 512)
    packed = repack(weight, CPU)
    assert packed.data.nbytes == places_of(PLANES[weight_format], 40, 512).size
    assert packed.data.nbytes <= 1.03 * weight.blocks.nbytes


@pytest.mark.parametrize("weight_format", [WeightFormat.Q4_0, WeightFormat.Q4_1, WeightFormat.Q8_0])
def test_scales_of_wider_groups_are_kept_once(weight_format: WeightFormat) -> None:
    """AWQ's and GPTQ's groups of 128 columns are four blocks with the same scale."""
    weight = quantized_of(weight_format, 8, 512)
    blocks = weight.blocks.reshape(8, 4, 4, -1).copy()
    factors = 4 if weight_format is WeightFormat.Q4_1 else 2
    blocks[..., :factors] = blocks[:, :, :1, :factors]
    same = QuantizedWeight(weight_format, blocks.reshape(8, -1))
    assert repack(same, CPU).span == 4
    blocks[7, 3, 3, 0] ^= 1
    assert repack(QuantizedWeight(weight_format, blocks.reshape(8, -1)), CPU).span == 1
