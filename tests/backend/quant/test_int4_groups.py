"""Blocks of 4 bits, taken apart."""

import pytest
import torch

from backend.quant.int4_groups import unpack_int4
from backend.quant.weight_format import WeightFormat
from tests.backend.stored_weights import quantized_of


@pytest.mark.parametrize("weight_format", [WeightFormat.Q4_0, WeightFormat.Q4_1])
def test_groups_make_up_the_weight(weight_format: WeightFormat) -> None:
    weight = quantized_of(weight_format, 5, 96)
    values, scales, mins = unpack_int4(weight)
    assert values.shape == (5, 96) and scales.shape == mins.shape == (5, 3)
    dense = values.view(5, 3, 32) * scales[..., None] + mins[..., None]
    # Q4_0's minimum is -8 scales, so that its products are rounded in another order.
    torch.testing.assert_close(dense.flatten(1), weight.to_dense(), rtol=1e-6, atol=1e-6)
