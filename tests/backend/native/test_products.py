"""Products of several groups of rows in one call: the bits of a call for each."""

from functools import partial

import pytest
import torch
from torch import Tensor

from backend.config.spec import GateClamp
from backend.linear.grouped import GroupedWeight
from backend.linear.kernel import Gating
from backend.linear.method import StackedWeight
from backend.linear.registry import create_method
from backend.native import absence, kernels
from backend.native.level import Activations
from backend.ops.native import NativeOps
from backend.quant.weight_format import BLOCK_FORMATS, WeightFormat
from tests.backend.native.test_gemm import CPU, MAX_THREADS, same, threads
from tests.backend.stored_weights import randn, stored_of, uneven_rows

pytestmark = [
    pytest.mark.numerics,
    pytest.mark.skipif(kernels is None, reason=absence),
    pytest.mark.usefixtures("level"),
]

# Rows of each group: none at the ends and in the middle, few, a tile, and more than a part.
COUNTS = [0, 1, 2, 0, 3, 16, 0, 41, 1, 0]


def weights_of(
    weight_format: WeightFormat, features: int, width: int, activations: Activations
) -> list[StackedWeight]:
    method = create_method("auto", "portable", torch.bfloat16, CPU, activations)
    groups = range(len(COUNTS))
    return [method.stack([stored_of(weight_format, features, width, g)]) for g in groups]


def each(weights: list[StackedWeight], x: Tensor, counts: list[int], *, swiglu: bool) -> Tensor:
    """One call after the other."""
    silu_mul = NativeOps().silu_mul
    rows = zip(weights, torch.split(x, counts), strict=True)
    parts = [w.apply_gated(r, None, Gating(silu_mul)) if swiglu else w.apply(r) for w, r in rows]
    return torch.cat(parts)


@pytest.mark.pairwise
@pytest.mark.parametrize("weight_format", [WeightFormat.DENSE, *BLOCK_FORMATS])
@pytest.mark.parametrize(
    ("features", "width", "activations"), [(50, 256, "int16"), (96, 1280, "mixed")]
)
def test_groups_have_the_bits_of_single_products(
    weight_format: WeightFormat, features: int, width: int, activations: Activations
) -> None:
    weights = weights_of(weight_format, features, width, activations)
    grouped, silu_mul = GroupedWeight(weights), NativeOps().silu_mul
    x = uneven_rows(sum(COUNTS), width)
    ends = torch.tensor(COUNTS).cumsum(0)
    products, gated = (each(weights, x, COUNTS, swiglu=swiglu) for swiglu in (False, True))
    for count in (1, MAX_THREADS):
        with threads(count):
            assert same(grouped.apply(x, ends), products)
            assert same(grouped.apply_gated(x, ends, Gating(silu_mul)), gated)


@pytest.mark.parametrize("weight_format", [WeightFormat.DENSE, WeightFormat.Q4_K])
@pytest.mark.parametrize("activations", ["int16", "mixed"])
def test_heads_have_the_bits_of_single_products(
    weight_format: WeightFormat, activations: Activations
) -> None:
    """Heads of each token, and tokens, between others that stay as they are."""
    weights = weights_of(weight_format, 50, 256, activations)
    grouped, heads = GroupedWeight(weights), len(weights)
    for tokens in (1, 3, 40):
        x = uneven_rows(tokens * (heads + 1), 320).view(tokens, heads + 1, 320)[:, 1:, 20:276]
        whole = randn(tokens, heads + 1, 70).bfloat16()
        expected = whole.clone()
        for head, weight in enumerate(weights):
            expected[:, head, 7:57] = weight.apply(x[:, head].contiguous())
        for count in (1, MAX_THREADS):
            out = whole.clone()
            with threads(count):
                grouped.apply_by_head(x, out[:, :heads, 7:57])
            assert same(out, expected)


@pytest.mark.parametrize("weight_format", [WeightFormat.DENSE, WeightFormat.MXFP4])
def test_biases_and_limits_are_those_of_the_formula(weight_format: WeightFormat) -> None:
    """bf16 of sums in float32: 2^-8 of each, and the same bits for a row alone."""
    weights = weights_of(weight_format, 96, 256, "int16")
    biases = [randn(96, seed=50 + g).bfloat16() for g in range(len(COUNTS))]
    x, ends = randn(sum(COUNTS), 256).bfloat16(), torch.tensor(COUNTS).cumsum(0)
    clamp = GateClamp(1.5, 1.7, 1.0)
    compute = partial(NativeOps().clamped_gate_mul, clamp=clamp)
    gating = Gating(compute, clamp.limit, clamp.alpha, clamp.offset)
    grouped = GroupedWeight(weights, biases)
    sums, gated = grouped.apply(x, ends), grouped.apply_gated(x, ends, gating)
    parts = zip(weights, biases, torch.split(x, COUNTS), strict=True)
    exact = torch.cat([w.parts[0].logits(rows) + bias.float() for w, bias, rows in parts])
    torch.testing.assert_close(sums.float(), exact, rtol=2**-8, atol=0)
    g, u = exact.double().chunk(2, dim=1)
    g, u = g.clamp(max=1.5), u.clamp(-1.5, 1.5)
    expected = g * torch.sigmoid(1.7 * g) * (u + 1)
    torch.testing.assert_close(gated.double(), expected, rtol=2**-8, atol=1e-5)
    alone = GroupedWeight(weights[7:8], biases[7:8])
    row = alone.apply_gated(x[22:23], torch.tensor([1]), gating)
    assert same(row, gated[22:23])


def test_gate_of_limits_keeps_what_is_no_number() -> None:
    weights = weights_of(WeightFormat.DENSE, 32, 64, "int16")
    x = torch.full((1, 64), torch.nan, dtype=torch.bfloat16)
    ends = torch.tensor([0, *[1] * (len(COUNTS) - 1)])
    gated = GroupedWeight(weights).apply_gated(x, ends, Gating(NativeOps().silu_mul, 7.0, 1.7, 1.0))
    assert bool(gated.isnan().all())


def test_no_rows_at_all() -> None:
    weights = weights_of(WeightFormat.Q4_0, 32, 64, "int16")
    grouped, ends = GroupedWeight(weights), torch.zeros(len(COUNTS), dtype=torch.int64)
    assert grouped.apply(torch.empty(0, 64, dtype=torch.bfloat16), ends).shape == (0, 32)


def test_rows_of_a_width_that_is_filled_up() -> None:
    """Dense weights of 72 columns are multiplied as 96."""
    weights = weights_of(WeightFormat.DENSE, 32, 72, "int16")
    x = randn(sum(COUNTS), 72).bfloat16()
    ends = torch.tensor(COUNTS).cumsum(0)
    got = GroupedWeight(weights).apply(x, ends)
    assert same(got, each(weights, x, COUNTS, swiglu=False))
