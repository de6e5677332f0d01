"""Our own kernels behind the linear method: every format, at every level of the processor."""

from itertools import product

import pytest
import torch
from torch import Tensor

from backend.linear.kernel import Gating
from backend.linear.method import LinearMethod
from backend.linear.native import NativeKernel
from backend.linear.registry import create_method
from backend.native import absence, kernels
from backend.native.level import BF16_LEVELS, Activations
from backend.quant.kept_weights import KeptWeights, Quantization
from backend.quant.weight_format import BLOCK_FORMATS, WeightFormat
from tests.backend.stored_weights import (
    Stored,
    quantized_of,
    randn,
    stored_in,
    stored_of,
    uneven_rows,
)

pytestmark = [
    pytest.mark.numerics,
    pytest.mark.skipif(kernels is None, reason=absence),
    pytest.mark.usefixtures("level"),
]

CPU = torch.device("cpu")
DENSE = WeightFormat.DENSE
FORMATS = [DENSE, *BLOCK_FORMATS]
# Standard deviations of a sum's error, as shares of the norm of the weights, where activations are
# near 1. int8: the largest of 32 is about 2, a step 2 / 127, and its error a step / sqrt(12).
# int16 likewise, with float32's sums; bf16: the weights are rounded, by up to 2^-9. mixed: no worse
# than int8.
ACTIVATION_NOISE: dict[Activations, float] = {
    "mixed": 6e-3,
    "int8": 6e-3,
    "int16": 5e-5,
    "bf16": 2e-3,
}
BF16_STEP = 2**-8


def native(
    quantization: Quantization = "auto", activations: Activations = "int8", level: str = "portable"
) -> LinearMethod:
    """Our kernels at the level that is in use: all levels have the same rows in the table."""
    return create_method(quantization, level, torch.bfloat16, CPU, activations)


def meant_by(stored: Stored) -> Tensor:
    """The weight in float32, not rounded to bf16."""
    return stored.weight.float() if stored.quantized is None else stored.quantized.to_dense()


def noise(activations: Activations, meant: Tensor) -> Tensor:
    """How far sums over a row of activations near 1 may be off, for each feature [N]."""
    bound: Tensor = 6 * ACTIVATION_NOISE[activations] * meant.double().norm(dim=1)
    return bound


def check_near(got: Tensor, expected: Tensor, bound: Tensor) -> None:
    assert got.shape == expected.shape
    steps = BF16_STEP * expected.abs() if got.dtype == torch.bfloat16 else 1e-5
    assert bool(((got.double() - expected).abs() <= bound + steps + 1e-4).all())


@pytest.mark.pairwise(
    unless=lambda activations, level: activations == "bf16" and level not in BF16_LEVELS
)
@pytest.mark.parametrize("activations", ["mixed", "int8", "int16", "bf16"])
@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("features", [41, 96])
def test_product_is_that_of_the_dequantised_weights(
    weight_format: WeightFormat, features: int, activations: Activations, level: str
) -> None:
    if activations == "bf16" and level not in BF16_LEVELS:
        pytest.skip("this level does not multiply bf16")
    stored = stored_of(weight_format, features, 512)
    meant = meant_by(stored)
    packed = native(activations=activations).pack(stored)
    bound = noise(activations, meant)
    for rows in (0, 1, 2, 7, 16, 33, 70):
        x = randn(rows, 512, seed=rows).bfloat16()
        expected = x.double() @ meant.double().T
        check_near(packed.apply(x), expected, bound)
        check_near(packed.logits(x), expected, bound)


@pytest.mark.pairwise
@pytest.mark.parametrize("weight_format", BLOCK_FORMATS)
@pytest.mark.parametrize("rows", [1, 2, 7, 40])
def test_mixed_is_as_good_as_if_large_groups_had_16_bits(
    weight_format: WeightFormat, rows: int
) -> None:
    """One group of five is six times as large. Rounded to int8 it makes the error 1 + 35 / 5 times
    as large in squares; its fine part takes that away."""
    stored = stored_of(weight_format, 96, 2560)
    x = uneven_rows(rows, 2560)
    expected = x.double() @ meant_by(stored).double().T
    errors = {
        kind: float((native(activations=kind).pack(stored).logits(x) - expected).square().mean())
        for kind in ("mixed", "int8", "int16")
    }
    assert errors["int16"] < errors["mixed"] < 0.2 * errors["int8"]


@pytest.mark.parametrize("weight_format", FORMATS)
def test_bias_is_added_once(weight_format: WeightFormat) -> None:
    stored, bias = stored_of(weight_format, 96, 256), randn(96, seed=3).bfloat16()
    packed = native().pack(stored)
    for rows in (1, 40):
        x = randn(rows, 256).bfloat16()
        expected = packed.logits(x) + bias.float()
        torch.testing.assert_close(packed.apply(x, bias).float(), expected, rtol=2**-7, atol=1e-3)


@pytest.mark.pairwise
@pytest.mark.parametrize("features", [96, 48])
@pytest.mark.parametrize("weight_format", FORMATS)
def test_swiglu_is_that_of_the_two_halves(weight_format: WeightFormat, features: int) -> None:
    packed = native().pack(stored_of(weight_format, features, 256))

    def silu_mul(both: Tensor) -> Tensor:
        gate, up = both.float().chunk(2, dim=1)
        return (torch.nn.functional.silu(gate) * up).bfloat16()

    for rows, bias in product((1, 5, 40), (None, randn(features, seed=3).bfloat16())):
        x = 0.3 * randn(rows, 256, seed=rows).bfloat16()
        sums = packed.logits(x) + (0 if bias is None else bias.float())
        got = packed.apply_gated(x, bias, Gating(silu_mul))
        assert got.shape == (rows, features // 2) and got.dtype == torch.bfloat16
        gate, up = sums.double().chunk(2, dim=1)
        expected = torch.nn.functional.silu(gate) * up
        torch.testing.assert_close(got.double(), expected, rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize("weight_format", FORMATS)
def test_argmax_is_the_largest_logit(weight_format: WeightFormat) -> None:
    packed = native().pack(stored_of(weight_format, 301, 256))
    x = randn(17, 256).bfloat16()
    values, ids = packed.argmax(x)
    logits = packed.logits(x)
    assert torch.equal(ids, logits.argmax(1)) and torch.equal(values, logits.amax(1))


@pytest.mark.pairwise
@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("features", [41, 500])
def test_rows_are_looked_up_to_the_nearest_bf16(weight_format: WeightFormat, features: int) -> None:
    stored = stored_of(weight_format, features, 512)
    packed = native().pack(stored)
    assert packed.embeds
    for count in (0, 1, 300):
        ids = torch.randint(features, (count,), generator=torch.Generator().manual_seed(0))
        assert torch.equal(packed.embed(ids), stored.weight[ids])
    for bad in (-1, features):
        with pytest.raises(IndexError):
            packed.embed(torch.tensor([0, bad]))


def test_parts_of_several_formats_make_one_result() -> None:
    formats = [WeightFormat.Q4_K, WeightFormat.Q4_K, WeightFormat.Q6_K, DENSE]
    stored = [stored_of(name, 16 + 8 * i, 256, seed=i) for i, name in enumerate(formats)]
    stacked = native().stack(stored)
    assert [part.num_features for part in stacked.parts] == [40, 32, 40]
    bias, x = randn(112, seed=9).bfloat16(), randn(5, 256).bfloat16()
    alone = [native().pack(part) for part in stored]
    biases = torch.split(bias, [16, 24, 32, 40])
    expected = [part.apply(x, own) for part, own in zip(alone, biases, strict=True)]
    assert torch.equal(stacked.apply(x, bias), torch.cat(expected, dim=1))


@pytest.mark.parametrize("width", [1, 40, 100])
def test_odd_width_of_dense_weights_is_filled_up(width: int) -> None:
    stored = stored_of(DENSE, 48, width)
    packed = native().pack(stored)
    x = randn(5, width).bfloat16()
    expected = x.double() @ stored.weight.double().T
    check_near(packed.apply(x), expected, noise("int8", stored.weight))
    assert torch.equal(packed.argmax(x)[1], packed.logits(x).argmax(1))
    ids = torch.tensor([3, 0, 47])
    assert torch.equal(packed.embed(ids), stored.weight[ids])


@pytest.mark.parametrize("weight_format", FORMATS)
def test_footprint_is_what_is_kept(weight_format: WeightFormat) -> None:
    method, kept = native(), KeptWeights("auto", "native", dtype_bytes=2)
    for features in (1, 96):
        packed = method.pack(stored_of(weight_format, features, 256))
        footprint = kept.footprint(weight_format, features, 256)
        assert packed.size_bytes == sum(footprint)
        assert (footprint.packed_bytes == 0) == (weight_format is DENSE)


@pytest.mark.parametrize("quantization", ["int4", "int8"])
def test_rounded_weight_is_kept_in_blocks(quantization: Quantization) -> None:
    packed = native(quantization).pack(Stored(randn(96, 576).bfloat16()))
    bits = {"int4": 5, "int8": 8.5}[quantization]
    assert isinstance(packed.kernel, NativeKernel)
    assert packed.size_bytes == pytest.approx(96 * 576 * bits / 8, rel=0.03)


@pytest.mark.parametrize("weight_format", BLOCK_FORMATS)
def test_parts_of_a_matrix_make_the_whole(weight_format: WeightFormat) -> None:
    """As tensor parallelism cuts it: by features, and by columns in whole blocks."""
    whole = quantized_of(weight_format, 96, 512)
    x = randn(3, 512).bfloat16()
    expected = native().pack(stored_in(whole)).logits(x)
    row_bytes = whole.blocks.shape[1] // 2

    def part(rows: slice, cols: slice, of_x: slice) -> Tensor:
        blocks = whole.blocks[rows, cols].copy()
        cut = type(whole)(weight_format, blocks)
        return native().pack(stored_in(cut)).logits(x[:, of_x])

    every = slice(None)
    by_features = [part(slice(0, 50), every, every), part(slice(50, 96), every, every)]
    assert torch.equal(torch.cat(by_features, dim=1), expected)
    halves = [
        part(every, slice(0, row_bytes), slice(0, 256)),
        part(every, slice(row_bytes, None), slice(256, 512)),
    ]
    torch.testing.assert_close(sum(halves), expected, rtol=1e-4, atol=1e-4)
