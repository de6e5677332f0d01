"""Which form of a weight our own kernels keep, and that it multiplies like the weight."""

import pytest
import torch

from backend.linear.method import LinearMethod, Quantization
from backend.linear.native import Blocks, BlocksBesideTiles
from backend.linear.registry import create_method
from backend.native import absence, kernels
from backend.quant.weight_format import WeightFormat
from tests.backend.stored_weights import Stored, randn, stored_of

pytestmark = pytest.mark.skipif(kernels is None, reason=absence)

CPU = torch.device("cpu")
QUANTIZATIONS: list[Quantization] = ["auto", "none", "int4", "int8"]


def native(quantization: Quantization, level: str = "avx512_bf16") -> LinearMethod:
    return create_method(quantization, level, torch.bfloat16, CPU)


@pytest.mark.parametrize("quantization", ["int4", "int8"])
def test_rounded_weight_is_the_same_for_few_rows_and_many(quantization: Quantization) -> None:
    packed = native(quantization).pack(Stored(randn(96, 576).bfloat16()))
    units = torch.eye(576).bfloat16()
    few = packed.apply(units[:16])
    assert torch.equal(few, packed.apply(units)[: len(few)])


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("bits", [4, 16])
def test_dense_form_is_kept_only_beside_amx(quantization: Quantization, bits: int) -> None:
    stored = stored_of(bits, 96, 576)
    stored_as = WeightFormat.DENSE if bits == 16 else WeightFormat.Q4
    x = randn(64, 576).bfloat16()
    results = []
    for level, kept in (("avx512_bf16", Blocks), ("amx_bf16", BlocksBesideTiles | torch.Tensor)):
        method = native(quantization, level)
        packed = method.pack(stored)
        assert isinstance(packed.data, kept)
        footprint = method.footprint(stored_as, 96, 576)
        bits_kept = footprint.packed_bits + 16 * footprint.is_dense
        assert packed.size_bytes == 96 * 576 * bits_kept // 8
        results.append((packed.apply(x[:1]), packed.apply(x)))
    (few, many), (few_beside, many_beside) = results
    # Sums in another order: a bf16 result may be the neighbour of the other.
    torch.testing.assert_close(few, few_beside, rtol=2**-7, atol=2**-6)
    torch.testing.assert_close(many, many_beside, rtol=2**-7, atol=2**-6)


@pytest.mark.parametrize("quantization", ["auto", "none", "int4"])
def test_width_that_is_no_multiple_of_a_group_is_left_to_onednn(quantization: Quantization) -> None:
    weight = randn(48, 40).bfloat16()
    x = randn(5, 40).bfloat16()
    packed = native(quantization).pack(Stored(weight))
    assert isinstance(packed.data, torch.Tensor) and packed.embed() is None
    torch.testing.assert_close(packed.apply(x), x @ weight.T, rtol=2**-7, atol=0.1)


def test_groups_are_dense_where_that_is_asked_for() -> None:
    stored = stored_of(4, 96, 576)
    dense = native("none").pack(stored)
    plain = native("auto").pack(Stored(stored.weight))
    assert torch.equal(dense.data.data, plain.data.data)


@pytest.mark.parametrize("quantization", ["int4", "int8"])
def test_groups_of_the_file_are_not_rounded_again(quantization: Quantization) -> None:
    stored = stored_of(4, 96, 576)
    as_stored, rounded = native("auto").pack(stored), native(quantization).pack(stored)
    assert torch.equal(as_stored.data.data, rounded.data.data)


def test_bias_of_the_beside_amx_form_is_added_once() -> None:
    stored, bias = stored_of(4, 96, 64), randn(96).bfloat16()
    packed = native("auto", "amx_bf16").pack(stored)
    for rows in (1, 40):
        x = randn(rows, 64).bfloat16()
        expected = x.float() @ stored.weight.float().T + bias.float()
        torch.testing.assert_close(packed.apply(x, bias).float(), expected, rtol=2**-7, atol=2**-4)
