"""What blocks stand for, and how they are stacked."""

import numpy as np
import pytest
import torch

from backend.quant.quantized_weight import QuantizedWeight, concatenate
from backend.quant.weight_format import BLOCK_FORMATS, WeightFormat
from tests.backend.quant.ggml_blocks import numbers_of
from tests.backend.stored_weights import quantized_of


@pytest.mark.parametrize("weight_format", BLOCK_FORMATS)
def test_dense_form_is_that_of_ggmls_definitions(weight_format: WeightFormat) -> None:
    """Bit for bit: the gguf library, which computes it, and ggml's C agree on every format."""
    weight = quantized_of(weight_format, 3, 512)
    assert weight.shape == (3, 512)
    size = weight_format.block_bytes
    rows = [
        [
            number
            for start in range(0, len(row), size)
            for number in numbers_of(weight_format, row[start : start + size])
        ]
        for row in map(bytes, weight.blocks)
    ]
    assert np.array_equal(weight.to_dense().numpy(), np.array(rows))


@pytest.mark.parametrize("exponent", [0, 1, 2, 127, 250])
def test_every_exponent_of_mxfp4_is_ggmls(exponent: int) -> None:
    blocks = quantized_of(WeightFormat.MXFP4, 1, 32).blocks
    blocks[0, 0] = exponent
    dense = QuantizedWeight(WeightFormat.MXFP4, blocks).to_dense()
    expected = np.array([numbers_of(WeightFormat.MXFP4, bytes(blocks[0]))])
    assert np.array_equal(dense.numpy(), expected)


def test_weights_of_one_format_are_stacked() -> None:
    parts = [quantized_of(WeightFormat.Q6_K, rows, 256, seed=rows) for rows in (3, 5)]
    both = concatenate(parts)
    assert both.shape == (8, 256)
    assert torch.equal(both.to_dense(), torch.cat([part.to_dense() for part in parts]))


def test_weights_of_different_formats_are_not_stacked() -> None:
    parts = [quantized_of(name, 3, 256) for name in (WeightFormat.Q4_0, WeightFormat.IQ4_NL)]
    with pytest.raises(ValueError, match="too many values"):
        concatenate(parts)
