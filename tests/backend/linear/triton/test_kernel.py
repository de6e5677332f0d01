"""Products by weights in planes, against the dequantised weights in float32, over the same rows."""

import pytest
import torch

from backend.linear.triton.kernel import TritonKernel
from backend.quant.planes import PLANES
from backend.quant.weight_format import WeightFormat
from tests.backend.stored_weights import quantized_of, randn

pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FLOAT, BF16, HALF = torch.float32, torch.bfloat16, torch.float16
# What weights are rounded to on tensor cores, by up to 2^-9 of each (2^-12 in half), and sums then;
# the interpreter cuts bfloat16 where a GPU rounds.
STEP = {FLOAT: 2**-22, BF16: 2**-8, HALF: 2**-11}


def check(
    weight_format: WeightFormat, n: int, k: int, rows: int, dtype: torch.dtype = FLOAT
) -> None:
    weight = quantized_of(weight_format, n, k, seed=rows)
    kernel = TritonKernel(weight_format, dtype, DEVICE)
    packed = kernel.pack(weight)
    x, bias = randn(rows, k, seed=1).to(DEVICE, dtype), randn(n, seed=2).to(DEVICE, dtype)
    dense = weight.to_dense().to(DEVICE)
    expected = x.float() @ dense.T
    bound = STEP[dtype] * (x.float().norm(dim=1)[:, None] * dense.norm(dim=1) + expected.abs())
    for out, meant in (
        (kernel.apply(x, packed, bias), expected + bias.float()),
        (kernel.logits(x, packed), expected),
    ):
        assert bool(((out.float() - meant).abs() <= bound + STEP[dtype] * (meant.abs() + 1)).all())


@pytest.mark.parametrize("weight_format", PLANES)
@pytest.mark.parametrize("rows", [1, 3])
def test_product_is_that_of_the_dequantised_weights(weight_format: WeightFormat, rows: int) -> None:
    check(weight_format, 70, 768, rows)
    check(weight_format, 16, 256, rows, BF16)
    check(weight_format, 16, 256, rows, HALF)


@pytest.mark.parametrize(
    "rows", [2, 16, 17, 65, *(pytest.param(n, marks=pytest.mark.slow) for n in (64, 200))]
)
def test_rows_of_any_number(rows: int) -> None:
    check(WeightFormat.Q4_0, 33, 96, rows)
    check(WeightFormat.Q8_0, 65, 1056, rows, BF16)


@pytest.mark.parametrize("rows", [1, 3])
def test_pieces_of_columns_are_summed_in_their_order(rows: int) -> None:
    check(WeightFormat.Q4_1, 8, 2080, rows)
    check(WeightFormat.Q6_K, 8, 2304, rows)


@pytest.mark.parametrize("weight_format", PLANES)
def test_rows_are_looked_up(weight_format: WeightFormat) -> None:
    weight = quantized_of(weight_format, 9, 1280)
    kernel = TritonKernel(weight_format, FLOAT, DEVICE)
    ids = torch.tensor([8, 0, 3, 3], device=DEVICE)
    rows = kernel.embed(kernel.pack(weight), ids)
    expected = weight.to_dense().to(DEVICE)[ids]
    torch.testing.assert_close(rows, expected, rtol=1e-5, atol=1e-5)
    half = TritonKernel(weight_format, HALF, DEVICE)
    rows = half.embed(half.pack(weight), ids[:2])
    torch.testing.assert_close(rows.float(), expected[:2], rtol=2**-11, atol=1e-5)


def test_rows_of_activations_may_lie_apart() -> None:
    weight = quantized_of(WeightFormat.Q5_K, 20, 256)
    kernel = TritonKernel(WeightFormat.Q5_K, FLOAT, DEVICE)
    packed, x = kernel.pack(weight), randn(3, 300).to(DEVICE)[:, 10:266]
    out = torch.zeros(3, 50, device=DEVICE)
    kernel.apply_into(x, packed, None, out[:, 5:25])
    expected = x @ weight.to_dense().to(DEVICE).T
    torch.testing.assert_close(out[:, 5:25], expected, rtol=1e-4, atol=1e-4)
    assert not out[:, :5].any()
    assert not out[:, 25:].any()
    assert kernel.apply(x[:0], packed, None).shape == (0, 20)


@pytest.mark.parametrize("weight_format", [WeightFormat.MXFP4, WeightFormat.Q4_K])
@pytest.mark.parametrize("ends", [[0, 1, 1, 20, 21], [0, 0, 0, 0, 3], [17, 17, 17, 17, 17]])
def test_groups_of_rows_have_their_own_weights(
    weight_format: WeightFormat, ends: list[int]
) -> None:
    quantized = [quantized_of(weight_format, 70, 256, seed=seed) for seed in range(5)]
    kernel = TritonKernel(weight_format, FLOAT, DEVICE)
    packed = [kernel.pack(weight) for weight in quantized]
    x, biases = randn(ends[-1], 256).to(DEVICE), randn(5, 70, seed=1).to(DEVICE)
    product = kernel.grouped(packed, list(biases))
    out = product.apply(x, torch.tensor(ends, device=DEVICE))
    parts = x.tensor_split(ends[:-1])
    dense = [weight.to_dense().to(DEVICE) for weight in quantized]
    expected = torch.cat(
        [part @ own.T + bias for part, own, bias in zip(parts, dense, biases, strict=True)]
    )
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [FLOAT, HALF])
def test_columns_are_taken_in_a_weights_order(dtype: torch.dtype) -> None:
    """Of which some are none; of all rows, or of groups of rows, the last rows being nobody's."""
    kernel = TritonKernel(WeightFormat.Q4_0, dtype, DEVICE)
    x = randn(7, 1300).to(DEVICE, dtype)[:, 20:1270]
    orders = torch.stack([torch.randperm(1280, generator=rng(seed)) for seed in range(3)])
    orders = orders.clamp(max=1250).int().to(DEVICE)
    zeros = torch.nn.functional.pad(x, (0, 1))
    assert torch.equal(kernel.take_columns(x, orders[0]), zeros[:, orders[0].long()])
    ends = torch.tensor([2, 2, 6], device=DEVICE)
    expected = torch.cat([zeros[:2, orders[0].long()], zeros[2:, orders[2].long()]])
    assert torch.equal(kernel.take_columns(x, orders, ends), expected)
    assert kernel.take_columns(x[:0], orders[0]).shape == (0, 1280)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
