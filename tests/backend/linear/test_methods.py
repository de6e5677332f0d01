"""The linear methods against a plain product in fp64."""

import pytest
import torch

from backend.linear.exact import TILE
from backend.linear.registry import create_method
from backend.linear.torch_weight_only import INT4_MAX_ROWS, few_bit_kernels_work
from backend.quant.groups import (
    GROUP_SIZE,
    MAX_VALUE,
    Groups,
    concatenate,
    quantize,
    quantize_int8,
)
from tests.backend.stored_weights import Stored

CPU = torch.device("cpu")
# Relative to the largest output: fp32 sums of 576 products, and bfloat16's 8 bits of the result.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


@pytest.mark.parametrize("name", ["dense", "exact"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 5, TILE, 3 * TILE + 1])
def test_a_linear_is_the_product(name: str, dtype: torch.dtype, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 576, generator=generator).to(dtype)
    bias = torch.randn(96, generator=generator).to(dtype)
    x = torch.randn(rows, 576, generator=generator).to(dtype)
    method = create_method(name, dtype, CPU)
    got = method.apply(x, method.pack(Stored(weight)), bias)
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
    packed = method.pack(Stored(torch.randn(features, width, generator=generator).to(dtype)))
    x = torch.randn(37, width, generator=generator).to(dtype)
    together = method.apply(x, packed, None)
    for row in (0, 1, 15, 16, 36):
        assert torch.equal(method.apply(x[row : row + 1], packed, None)[0], together[row])
    assert torch.equal(method.apply(x[5:25], packed, None), together[5:25])


def test_rounding_is_to_the_nearest_of_each_group_s_values() -> None:
    weight = torch.randn(16, 4 * GROUP_SIZE, generator=torch.Generator().manual_seed(0))
    weight[3, :GROUP_SIZE] = 0.25  # a group without a range
    groups = quantize(weight)
    assert int(groups.values.max()) == MAX_VALUE and int(groups.values.min()) == 0
    error = (groups.to_dense() - weight).abs().view(16, 4, GROUP_SIZE)
    # Scales and minimums are float16: 2^-12 of them, and of scales 15 times as much.
    minimums = groups.minimums
    assert minimums is not None
    bound = groups.scales * (0.5 + 15 * 2**-12) + minimums.abs() * 2**-12 + 1e-6
    assert bool((error <= bound[..., None]).all())
    for factors in (groups.scales, minimums):
        assert torch.equal(factors.half().float(), factors)
    both = concatenate([groups, groups])
    assert both is not None
    assert torch.equal(both.to_dense(), torch.cat([groups.to_dense()] * 2))


def test_rounding_to_8_bits_leaves_half_a_step() -> None:
    weight = torch.randn(16, 4 * GROUP_SIZE, generator=torch.Generator().manual_seed(0))
    weight[3, :GROUP_SIZE] = 0
    groups = quantize_int8(weight)
    error = (groups.to_dense() - weight).abs().view(16, 4, GROUP_SIZE)
    # Scales are float16: 2^-12 of 127 steps.
    bound = groups.scales * (0.5 + 127 * 2**-12)
    assert bool((error <= bound[..., None]).all())


def test_groups_of_different_bits_do_not_become_one_matrix() -> None:
    four = quantize(torch.randn(16, GROUP_SIZE, generator=torch.Generator().manual_seed(0)))
    eight = Groups(torch.zeros(16, GROUP_SIZE, dtype=torch.int8), four.scales, None)
    assert concatenate([four, eight]) is None


@pytest.mark.skipif(not few_bit_kernels_work(), reason="torch has no such kernels here")
@pytest.mark.parametrize("name", ["grouped", "int4", "int8"])
@pytest.mark.parametrize("rows", [1, INT4_MAX_ROWS, INT4_MAX_ROWS + 1, 20])
def test_few_bits_multiply_like_the_weights_they_stand_for(name: str, rows: int) -> None:
    """Both forms of a weight, either side of the crossover, against the product in fp64.

    bfloat16's 8 bits of scales and results leave 1 %; of int8 also the rounding of the weights.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 576, generator=generator).bfloat16()
    groups = quantize(weight)
    meant = weight.double() if name == "int8" else groups.to_dense().double()
    stored: Groups | None = groups if name == "grouped" else None
    dense = groups.to_dense().bfloat16() if stored else weight
    bias = torch.randn(96, generator=generator).bfloat16()
    x = torch.randn(rows, 576, generator=generator).bfloat16()
    method = create_method(name, torch.bfloat16, CPU)
    got = method.apply(x, method.pack(Stored(dense, stored)), bias)
    expected = x.double() @ meant.T + bias.double()
    error = (got.double() - expected).abs().max() / expected.abs().max()
    assert got.dtype == torch.bfloat16 and error < (2e-2 if name == "int8" else 1e-2)


def test_a_weight_the_file_does_not_group_stays_dense() -> None:
    method = create_method("grouped", torch.bfloat16, CPU)
    weight = torch.randn(96, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    x = torch.randn(2, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    dense = create_method("dense", torch.bfloat16, CPU)
    expected = dense.apply(x, dense.pack(Stored(weight)), None)
    assert torch.equal(method.apply(x, method.pack(Stored(weight)), None), expected)
