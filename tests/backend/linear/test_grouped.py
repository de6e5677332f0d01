"""Groups of rows by weights of their own, by kernels that take one weight at a time."""

import pytest
import torch
from torch import Tensor

from backend.linear.grouped import GroupedWeight
from backend.linear.kernel import Gating
from backend.linear.method import LinearMethod, StackedWeight
from backend.ops.cpu import CpuOps
from backend.quant.weight_format import WeightFormat
from tests.backend.linear.test_method import PlainKernel
from tests.backend.stored_weights import Stored, randn

COUNTS = [2, 0, 1, 5]


def stack(weights: list[Tensor], *, formats: int) -> StackedWeight:
    """Two weights of one format are one part; of several, a part each."""
    kernels = {WeightFormat.DENSE: PlainKernel(), WeightFormat.Q4_1: PlainKernel()}
    method = LinearMethod("auto", kernels)
    if formats == 1:
        return method.stack([Stored(weight) for weight in weights])
    parts = [method.stack([Stored(weight)]).parts[0] for weight in weights]
    return StackedWeight(parts)


@pytest.mark.parametrize("formats", [1, 2])
def test_each_group_is_multiplied_by_its_own_weight(formats: int) -> None:
    gates, ups = ([randn(8, 16, seed=seed + g) for g in range(len(COUNTS))] for seed in (0, 10))
    weights = [stack([gate, up], formats=formats) for gate, up in zip(gates, ups, strict=True)]
    grouped = GroupedWeight(weights)
    x, ends = randn(sum(COUNTS), 16, seed=3), torch.tensor(COUNTS).cumsum(0)
    expected = torch.cat(
        [
            rows @ torch.cat([gate, up]).T
            for rows, gate, up in zip(torch.split(x, COUNTS), gates, ups, strict=True)
        ]
    )
    torch.testing.assert_close(grouped.apply(x, ends), expected)
    silu_mul = CpuOps().silu_mul
    torch.testing.assert_close(grouped.apply_gated(x, ends, Gating(silu_mul)), silu_mul(expected))


@pytest.mark.parametrize("formats", [1, 2])
def test_each_group_has_a_bias_of_its_own(formats: int) -> None:
    gates, ups = ([randn(8, 16, seed=seed + g) for g in range(len(COUNTS))] for seed in (0, 10))
    biases = [randn(16, seed=20 + g) for g in range(len(COUNTS))]
    weights = [stack([gate, up], formats=formats) for gate, up in zip(gates, ups, strict=True)]
    grouped, plain = GroupedWeight(weights, biases), GroupedWeight(weights)
    x, ends = randn(sum(COUNTS), 16, seed=3), torch.tensor(COUNTS).cumsum(0)
    added = torch.cat([b.expand(n, -1) for b, n in zip(biases, COUNTS, strict=True)])
    expected = plain.apply(x, ends) + added
    torch.testing.assert_close(grouped.apply(x, ends), expected)
    silu_mul = CpuOps().silu_mul
    got = grouped.apply_gated(x, ends, Gating(silu_mul))
    torch.testing.assert_close(got, silu_mul(expected))


@pytest.mark.parametrize("formats", [1, 2])
def test_no_rows_give_no_rows(formats: int) -> None:
    weights = [stack([randn(8, 16), randn(8, 16)], formats=formats)] * 2
    grouped, ends = GroupedWeight(weights), torch.zeros(2, dtype=torch.int64)
    assert grouped.apply(torch.empty(0, 16), ends).shape == (0, 16)
    assert grouped.apply_gated(torch.empty(0, 16), ends, Gating(CpuOps().silu_mul)).shape == (0, 8)


def test_each_head_is_multiplied_by_its_own_weight() -> None:
    own = [randn(8, 16, seed=g) for g in range(3)]
    method = LinearMethod("auto", {WeightFormat.DENSE: PlainKernel()})
    grouped = GroupedWeight([method.stack([Stored(weight)]) for weight in own])
    x, out = randn(5, 3, 20, seed=9)[..., 4:], torch.zeros(5, 3, 10)
    grouped.apply_by_head(x, out[..., :8])
    expected = torch.stack([x[:, g] @ weight.T for g, weight in enumerate(own)], 1)
    torch.testing.assert_close(out[..., :8], expected)
    assert not out[..., 8:].any()
