"""The linear methods against a plain product in fp64."""

import pytest
import torch

from backend.quant import METHODS, create_method
from backend.quant.exact import TILE

CPU = torch.device("cpu")
# Relative to the largest output: fp32 sums of 576 products, and bfloat16's 8 bits of the result.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 5, TILE, 3 * TILE + 1])
def test_a_linear_is_the_product(name: str, dtype: torch.dtype, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 576, generator=generator).to(dtype)
    bias = torch.randn(96, generator=generator).to(dtype)
    x = torch.randn(rows, 576, generator=generator).to(dtype)
    method = create_method(name, dtype, CPU)
    got = method.apply(x, method.pack(weight.clone()), bias)
    expected = x.double() @ weight.double().T + bias.double()
    error = (got.double() - expected).abs().max() / expected.abs().max()
    assert got.dtype == dtype and error < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("width", "features"), [(576, 960), (576, 49152), (1536, 576)])
def test_an_exact_row_is_the_same_in_any_company(
    dtype: torch.dtype, width: int, features: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    method = create_method("exact", dtype, CPU)
    packed = method.pack(torch.randn(features, width, generator=generator).to(dtype))
    x = torch.randn(37, width, generator=generator).to(dtype)
    together = method.apply(x, packed, None)
    for row in (0, 1, 15, 16, 36):
        assert torch.equal(method.apply(x[row : row + 1], packed, None)[0], together[row])
    assert torch.equal(method.apply(x[5:25], packed, None), together[5:25])
