"""How a stored weight gets into the format that is wanted."""

import numpy as np
import pytest
import torch

from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.rounding import quantize_int4, quantize_int8
from backend.quant.stored import read_in
from backend.quant.weight_format import WeightFormat
from tests.backend.stored_weights import Stored, randn, stored_of


def test_weight_is_read_as_it_is_stored() -> None:
    stored = stored_of(WeightFormat.Q5_K, 4, 256)
    assert read_in(stored, WeightFormat.Q5_K) is stored.quantized


@pytest.mark.parametrize("wanted", [WeightFormat.DENSE, WeightFormat.Q8_CHANNEL])
def test_weight_is_read_dense_for_kernels_that_take_it_so(wanted: WeightFormat) -> None:
    stored = stored_of(WeightFormat.Q5_K, 4, 256)
    dense = read_in(stored, wanted)
    assert isinstance(dense, torch.Tensor) and torch.equal(dense, stored.weight)


def test_weight_is_rounded_where_it_is_stored_otherwise() -> None:
    stored = Stored(randn(4, 64))
    for wanted, rounded in (
        (WeightFormat.Q4_1, quantize_int4(stored.weight)),
        (WeightFormat.Q8_0, quantize_int8(stored.weight)),
    ):
        read = read_in(stored, wanted)
        assert isinstance(read, QuantizedWeight) and read.format is wanted
        assert np.array_equal(read.blocks, rounded.blocks)
    with pytest.raises(ValueError, match="nothing is rounded to q6_k"):
        read_in(stored, WeightFormat.Q6_K)
