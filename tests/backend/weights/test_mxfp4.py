"""Experts in MXFP4: any slice is that of what the format's definition makes of the bits."""

import pytest
import torch
from torch import Tensor

from backend.config.mxfp4_stacks import StoredStack
from backend.quant.weight_format import WeightFormat
from backend.weights.mxfp4 import Mxfp4Matrix
from tests.backend.models.mxfp4_model import from_mxfp4

EXPERTS, ROWS, COLUMNS = 3, 10, 128
GENERATOR = torch.Generator().manual_seed(0)
CODES = torch.randint(16, (EXPERTS, ROWS, COLUMNS // 32, 32), generator=GENERATOR).to(torch.uint8)
EXPONENTS = torch.randint(120, 134, (EXPERTS, ROWS, COLUMNS // 32), generator=GENERATOR)
TENSORS: dict[str, Tensor] = {
    "x_blocks": CODES[..., ::2] | CODES[..., 1::2] << 4,
    "x_scales": EXPONENTS.to(torch.uint8),
}
MEANT = from_mxfp4(CODES, EXPONENTS)


def matrix(expert: int) -> Mxfp4Matrix:
    stack = StoredStack("x", (EXPERTS, ROWS, COLUMNS))
    return Mxfp4Matrix(stack, expert, lambda name: TENSORS[name])


@pytest.mark.parametrize("rows", [slice(None), slice(2, 7), slice(1, 10, 2), slice(3, 3)])
@pytest.mark.parametrize("cols", [slice(None), slice(32, 96), slice(7, 71), slice(40, 50)])
def test_slices_are_those_of_the_matrix(rows: slice, cols: slice) -> None:
    for expert in range(EXPERTS):
        read = matrix(expert).read(rows, cols)
        assert torch.equal(read, MEANT[expert, rows, cols]) and read.is_contiguous()


def test_whole_blocks_stay_in_their_bits() -> None:
    found = matrix(1).read_quantized(slice(1, 10, 2), slice(32, 96))
    assert found.format is WeightFormat.MXFP4 and found.blocks.shape == (5, 34)
    assert torch.equal(found.to_dense(), MEANT[1, 1:10:2, 32:96])
    assert matrix(1).format_of(slice(32, 100)) is WeightFormat.DENSE
    with pytest.raises(ValueError, match="are not whole blocks"):
        matrix(1).read_quantized(cols=slice(16, 48))
