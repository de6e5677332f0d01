"""Groups of rows by weights in several formats, without the host: no kernel's tile is one's own."""

import pytest
import torch

from backend.linear.cublas import CublasKernel
from backend.linear.grouped import GroupedWeight
from backend.linear.method import PackedWeight, StackedWeight
from backend.linear.triton.kernel import TritonKernel
from backend.quant.weight_format import WeightFormat
from tests.backend.stored_weights import quantized_of, randn

pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Q4_K, Q6_K, DENSE = WeightFormat.Q4_K, WeightFormat.Q6_K, WeightFormat.DENSE
KERNELS = {
    Q4_K: TritonKernel(Q4_K, torch.float32, DEVICE),
    Q6_K: TritonKernel(Q6_K, torch.float32, DEVICE),
}
PLAIN = CublasKernel(torch.float32, DEVICE)


def packed_of(weight_format: WeightFormat, n: int, seed: int) -> tuple[PackedWeight, torch.Tensor]:
    """A weight [n, 256], and its numbers."""
    if weight_format is DENSE:
        weight = randn(n, 256, seed=seed).to(DEVICE)
        return PackedWeight(PLAIN, PLAIN.pack(weight), n), weight
    quantized, kernel = quantized_of(weight_format, n, 256, seed=seed), KERNELS[weight_format]
    return PackedWeight(kernel, kernel.pack(quantized), n), quantized.to_dense().to(DEVICE)


@pytest.mark.parametrize(
    "formats",
    [
        [[Q4_K], [Q6_K], [Q4_K], [DENSE]],
        [[Q4_K, Q6_K], [Q4_K, Q6_K], [Q6_K, Q6_K], [Q4_K, Q4_K]],
    ],
)
def test_experts_in_several_formats_are_multiplied_on_the_device(
    formats: list[list[WeightFormat]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one part, or of a gate and what it gates; the second group has no rows."""
    made = [
        [packed_of(each, 24, 7 * g + n) for n, each in enumerate(parts)]
        for g, parts in enumerate(formats)
    ]
    width = 24 * len(formats[0])
    biases = list(randn(4, width, seed=1).to(DEVICE))
    weights = GroupedWeight([StackedWeight([part for part, _ in each]) for each in made], biases)
    x, ends = randn(21, 256).to(DEVICE), torch.tensor([3, 3, 20, 21], device=DEVICE)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda *_: pytest.fail("the host waits"))
    out = weights.apply(x, ends)
    assert weights.apply(x[:0], ends * 0).shape == (0, width)
    dense = [torch.cat([numbers for _, numbers in each]) for each in made]
    expected = torch.cat(
        [
            part @ own.T + bias
            for part, own, bias in zip(x.tensor_split([3, 3, 20]), dense, biases, strict=True)
        ]
    )
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("formats", [[Q4_K, Q4_K, Q4_K], [Q4_K, Q6_K, Q4_K]])
def test_experts_have_orders_of_columns_of_their_own(
    formats: list[WeightFormat], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 250 columns each, which fill up to 256; of one format or of several."""
    made = [packed_of(each, 24, g) for g, each in enumerate(formats)]
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(256, generator=generator).clamp(max=250) for _ in made]
    weights = GroupedWeight(
        [
            StackedWeight([part._replace(order=order.int().to(DEVICE))])
            for (part, _), order in zip(made, orders, strict=True)
        ]
    )
    x, ends = randn(7, 250).to(DEVICE), torch.tensor([3, 3, 7], device=DEVICE)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda *_: pytest.fail("the host waits"))
    out = weights.apply(x, ends)
    zeros = torch.nn.functional.pad(x, (0, 1))
    expected = torch.cat([zeros[:3, orders[0]] @ made[0][1].T, zeros[3:, orders[2]] @ made[2][1].T])
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-3)
