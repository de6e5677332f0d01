"""Norms that are gated, of groups that one rank has, or several: against the oracle."""

from collections.abc import Iterator

import pytest
import torch

from backend.native import kernels, levels
from backend.ops.cpu import CpuOps
from backend.ops.gated_norm import Gate, GatedNorm
from backend.ops.native import NativeOps
from backend.ops.op_table import Ops
from backend.ops.reference import ReferenceOps

GATES: list[Gate] = ["behind", "before", "alone"]


@pytest.fixture(params=["cpu", *levels()])
def ops(request: pytest.FixtureRequest) -> Iterator[Ops]:
    if request.param == "cpu":
        yield CpuOps()
        return
    kernels.use(request.param)
    yield NativeOps()
    kernels.use(levels()[0])


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("dim", [48, 20])
def test_norm_is_the_oracles(ops: Ops, gate: Gate, dim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, dim, generator=generator).bfloat16()
    apart = torch.randn(5, 3 * dim + 7, generator=generator).bfloat16()[:, : 3 * dim]
    norm = GatedNorm(torch.randn(3, dim, generator=generator), 1e-6, gate, 0.7)
    expected = ReferenceOps().gated_norm(x.float(), apart.float(), norm)
    found = ops.gated_norm(x, apart, norm).float()
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=2**-9)


@pytest.mark.parametrize("gate", GATES[:2])
def test_halves_of_a_group_are_normalised_together(ops: Ops, gate: Gate) -> None:
    """As two ranks that share a group do it."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5, 1, 96, generator=generator).bfloat16()
    opened = torch.randn(5, 96, generator=generator).bfloat16()
    weight = torch.randn(1, 96, generator=generator)
    halves = [slice(0, 32), slice(32, 96)]
    norms = [GatedNorm(weight[:, half].contiguous(), 1e-6, gate, 0.7, 96) for half in halves]
    parts = [(x[..., half].contiguous(), opened[:, half]) for half in halves]
    squares = sum(
        (ops.gated_squares(*part, norm) for part, norm in zip(parts, norms, strict=True)),
        torch.zeros(5, 1),
    )
    found = [ops.gated_norm(*part, norm, squares) for part, norm in zip(parts, norms, strict=True)]
    whole = ReferenceOps().gated_norm(x.float(), opened.float(), GatedNorm(weight, 1e-6, gate, 0.7))
    torch.testing.assert_close(torch.cat(found, 1).float(), whole, rtol=2**-7, atol=2**-9)
