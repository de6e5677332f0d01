"""Groups of rows by dense weights of their own, against one product after the other."""

import pytest
import torch

from backend.linear.cublas import CublasKernel
from backend.linear.kernel import GroupedProduct
from backend.linear.triton.dense_groups import DenseGroups

pytestmark = pytest.mark.numerics
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("counts", "shape", "has_bias"),
    [
        ([3, 0, 17, 1], (70, 40), True),
        ([0, 0, 0, 0], (64, 64), False),
        ([0, 90, 0, 40], (64, 200), False),
        ([1], (5, 33), True),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_groups_are_products_one_after_the_other(
    counts: list[int], shape: tuple[int, int], has_bias: bool, dtype: torch.dtype
) -> None:
    """Empty groups, ones longer than a tile, columns that fill no step."""
    n, k = shape
    generator = torch.Generator().manual_seed(sum(counts) + n)
    parts = [torch.randn(n, k, generator=generator) for _ in counts]
    weights = [part.to(DEVICE, dtype) for part in parts]
    biases = [torch.randn(n, generator=generator).to(DEVICE, dtype) for _ in counts]
    x = torch.randn(sum(counts), k, generator=generator).to(DEVICE, dtype)
    ends = torch.tensor(counts, device=DEVICE).cumsum(0)
    kernel = CublasKernel(dtype, DEVICE)
    told = biases if has_bias else None
    product = kernel.grouped(weights, told)
    assert isinstance(product, DenseGroups)
    expected = GroupedProduct(kernel, weights, told).apply(x, ends)
    # bfloat16 results are cut in the interpreter where a GPU rounds.
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(product.apply(x, ends), expected, rtol=tolerance, atol=tolerance)


def test_rows_behind_the_last_group_are_not_read() -> None:
    """They are other ranks': there may be no numbers in them."""
    x = torch.full((9, 32), torch.nan, device=DEVICE)
    x[:4] = torch.randn(4, 32, device=DEVICE)
    weights = [torch.randn(16, 32, device=DEVICE) for _ in range(2)]
    ends = torch.tensor([1, 4], device=DEVICE)
    kernel = CublasKernel(torch.float32, DEVICE)
    out = kernel.grouped(weights).apply(x, ends)
    expected = torch.cat([x[:1] @ weights[0].T, x[1:4] @ weights[1].T])
    torch.testing.assert_close(out[:4], expected, rtol=1e-5, atol=1e-5)
