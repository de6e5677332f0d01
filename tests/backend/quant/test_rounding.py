"""Dense weights rounded to blocks of few bits."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from backend.quant import rounding
from backend.quant.int4_groups import unpack_int4
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.rounding import BLOCK, MAX_INT4, quantize_int4, quantize_int8
from backend.quant.weight_format import WeightFormat
from tests.backend.stored_weights import randn


def test_rounding_is_to_the_nearest_value_of_a_block() -> None:
    weight = randn(16, 4 * BLOCK)
    weight[3, :BLOCK] = 0.25  # a block without a range
    rounded = quantize_int4(weight)
    assert rounded.format is WeightFormat.Q4_1
    groups = unpack_int4(rounded)
    assert int(groups.values.max()) == MAX_INT4 and int(groups.values.min()) == 0
    error = (rounded.to_dense() - weight).abs().view(16, 4, BLOCK)
    # Scales and mins are float16: 2^-12 of them, and of scales 15 times as much.
    bound = groups.scales * (0.5 + 15 * 2**-12) + groups.mins.abs() * 2**-12 + 1e-6
    assert bool((error <= bound[..., None]).all())


def test_rounding_to_8_bits_leaves_half_a_step() -> None:
    weight = randn(16, 4 * BLOCK)
    weight[3, :BLOCK] = 0
    rounded = quantize_int8(weight)
    assert rounded.format is WeightFormat.Q8_0
    scales = weight.view(16, 4, BLOCK).abs().amax(-1) / 127
    error = (rounded.to_dense() - weight).abs().view(16, 4, BLOCK)
    # Scales are float16: 2^-11 of them, and so of 127 steps.
    bound = scales * (0.5 + 128 * 2**-11)
    assert bool((error <= bound[..., None]).all())


@pytest.mark.parametrize("quantize", [quantize_int4, quantize_int8])
def test_rounding_in_pieces_changes_no_bit(
    quantize: Callable[[torch.Tensor], QuantizedWeight], monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = randn(7, 2 * BLOCK)
    whole = quantize(weight)
    monkeypatch.setattr(rounding, "PIECE", 3 * 2 * BLOCK)
    assert np.array_equal(quantize(weight).blocks, whole.blocks)
