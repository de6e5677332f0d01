"""Our linears in the place of torch's: any shape, shares of ranks, one product for several."""

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.layers.linear_modules import (
    EmbeddingModule,
    GatheredLinear,
    PackedLinear,
    SharedInput,
    SharedLinear,
    SummedLinear,
)
from backend.linear.method import PackedWeight, StackedWeight
from backend.linear.onednn import OneDnnKernel
from tests.backend.tp_ranks import run_ranks

WEIGHT = torch.randn(14, 32, generator=torch.Generator().manual_seed(0))
BIAS = torch.randn(14, generator=torch.Generator().manual_seed(1))
X = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(2))


def packed(weight: Tensor) -> PackedWeight:
    kernel = OneDnnKernel(torch.float32, torch.device("cpu"))
    return PackedWeight(kernel, kernel.pack(weight.contiguous()), len(weight))


def test_linear_takes_any_leading_shape() -> None:
    linear = PackedLinear(packed(WEIGHT), BIAS, 32)
    for x in (X, X[0], X.view(5, 1, 1, 32)):
        torch.testing.assert_close(linear(x), F.linear(x, WEIGHT, BIAS))


def test_ranks_gather_uneven_features() -> None:
    def work(tp: TensorParallel) -> Tensor:
        rows = [slice(0, 9), slice(9, 14)][tp.rank]
        out: Tensor = GatheredLinear(packed(WEIGHT[rows]), BIAS[rows], 32, tp)(X)
        return out

    for out in run_ranks(2, work):
        torch.testing.assert_close(out, F.linear(X, WEIGHT, BIAS))


def test_ranks_sum_their_inputs_and_add_the_bias_once() -> None:
    """Of an input that a rank has whole it takes its own columns."""

    def work(tp: TensorParallel) -> list[Tensor]:
        columns = [slice(0, 20), slice(20, 32)][tp.rank]
        linear = SummedLinear(packed(WEIGHT[:, columns]), BIAS, 32, columns, tp)
        return [linear(X), linear(X[..., columns])]

    for outs in run_ranks(2, work):
        for out in outs:
            torch.testing.assert_close(out, F.linear(X, WEIGHT, BIAS))


def test_linears_of_one_input_are_multiplied_together() -> None:
    stacked = StackedWeight([packed(WEIGHT)])
    calls = []
    apply = stacked.apply

    class Counting:
        def apply(self, x: Tensor, bias: Tensor | None) -> Tensor:
            calls.append(len(x))
            return apply(x, bias)

    shared = SharedInput(Counting(), BIAS, [8, 4, 2])  # type: ignore[arg-type]
    parts = [SharedLinear(shared, index, 32, width) for index, width in enumerate((8, 4, 2))]
    whole = torch.split_with_sizes(F.linear(X, WEIGHT, BIAS), [8, 4, 2], -1)
    for part, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(part(X), expected)
    assert calls == [5]
    other = X + 1
    parts[0](X)
    torch.testing.assert_close(parts[1](other), F.linear(other, WEIGHT, BIAS)[..., 8:12])


def test_embedding_takes_a_batch_of_one() -> None:
    module = EmbeddingModule(lambda ids: WEIGHT[ids], 32)
    ids = torch.tensor([[3, 1, 3]])
    assert torch.equal(module(ids), WEIGHT[ids])
