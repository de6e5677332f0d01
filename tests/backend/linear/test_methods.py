"""The linear methods against a plain product in fp64."""

import pytest
import torch

from backend.linear.exact import TILE
from backend.linear.registry import create_method
from backend.linear.torch_weight_only import INT4_MAX_ROWS, weight_only_kernels_work
from backend.quant.kept_weights import KeptWeights, Quantization
from backend.quant.rounding import quantize_int4
from backend.quant.weight_format import WeightFormat
from tests.backend.stored_weights import Stored, stored_in, stored_of

pytestmark = pytest.mark.numerics

CPU = torch.device("cpu")
# Relative to the largest output: fp32 sums of 576 products, and bfloat16's 8 bits of the result.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


@pytest.mark.parametrize("level", ["torch", "exact"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 5, TILE, 3 * TILE + 1])
def test_linear_is_the_product(level: str, dtype: torch.dtype, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 576, generator=generator).to(dtype)
    bias = torch.randn(96, generator=generator).to(dtype)
    x = torch.randn(rows, 576, generator=generator).to(dtype)
    got = create_method("none", level, dtype, CPU).pack(Stored(weight)).apply(x, bias)
    expected = x.double() @ weight.double().T + bias.double()
    error = (got.double() - expected).abs().max() / expected.abs().max()
    assert got.dtype == dtype and error < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("width", "features"), [(576, 960), (576, 49152), (1536, 576)])
def test_exact_row_is_batch_invariant(dtype: torch.dtype, width: int, features: int) -> None:
    generator = torch.Generator().manual_seed(0)
    method = create_method("auto", "exact", dtype, CPU)
    packed = method.pack(Stored(torch.randn(features, width, generator=generator).to(dtype)))
    x = torch.randn(37, width, generator=generator).to(dtype)
    together = packed.apply(x)
    for row in (0, 1, 15, 16, 36):
        assert torch.equal(packed.apply(x[row : row + 1])[0], together[row])
    assert torch.equal(packed.apply(x[5:25]), together[5:25])


@pytest.mark.skipif(not weight_only_kernels_work(), reason="torch has no such kernels here")
@pytest.mark.parametrize("name", ["auto", "int4", "int8"])
@pytest.mark.parametrize("rows", [1, INT4_MAX_ROWS, INT4_MAX_ROWS + 1, 20])
def test_weight_only_kernels_multiply_like_the_weights(name: Quantization, rows: int) -> None:
    """Both forms of a weight, either side of the crossover, against the product in fp64.

    bfloat16's 8 bits of scales and results leave 1 %; of int8 also the rounding of the weights.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 576, generator=generator).bfloat16()
    rounded = quantize_int4(weight)
    meant = weight.double() if name == "int8" else rounded.to_dense().double()
    stored = stored_in(rounded) if name == "auto" else Stored(weight)
    bias = torch.randn(96, generator=generator).bfloat16()
    x = torch.randn(rows, 576, generator=generator).bfloat16()
    method = create_method(name, "torch_bf16", torch.bfloat16, CPU)
    got = method.pack(stored).apply(x, bias)
    expected = x.double() @ meant.T + bias.double()
    error = (got.double() - expected).abs().max() / expected.abs().max()
    assert got.dtype == torch.bfloat16 and error < (2e-2 if name == "int8" else 1e-2)


@pytest.mark.skipif(not weight_only_kernels_work(), reason="torch has no such kernels here")
@pytest.mark.parametrize("features", [48, 41])
@pytest.mark.parametrize("weight_format", [WeightFormat.Q4_0, WeightFormat.Q4_1])
def test_footprint_of_both_forms_is_what_is_kept(
    weight_format: WeightFormat, features: int
) -> None:
    """Features that torch's layout of 4 bits does not take are kept dense alone."""
    method = create_method("auto", "torch_bf16", torch.bfloat16, CPU)
    packed = method.pack(stored_of(weight_format, features, 64))
    kept = KeptWeights("auto", "torch_bf16", dtype_bytes=2)
    assert packed.size_bytes == sum(kept.footprint(weight_format, features, 64))


def test_weight_without_groups_stays_dense() -> None:
    method = create_method("auto", "torch_bf16", torch.bfloat16, CPU)
    weight = torch.randn(96, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    x = torch.randn(2, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    dense = create_method("none", "torch_bf16", torch.bfloat16, CPU)
    expected = dense.pack(Stored(weight)).apply(x)
    assert torch.equal(method.pack(Stored(weight)).apply(x), expected)
