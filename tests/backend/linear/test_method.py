"""In which format a weight is kept, and how parts of several formats multiply as one."""

import pytest
import torch
from torch import Tensor

from backend.linear.kernel import Gating, LinearKernel
from backend.linear.method import LinearMethod
from backend.quant.kept_weights import Quantization
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.rounding import quantize_int4
from backend.quant.weight_format import WeightFormat
from tests.backend.stored_weights import Stored, randn, stored_in, stored_of

DENSE, Q8_CHANNEL = WeightFormat.DENSE, WeightFormat.Q8_CHANNEL
Q4_1, Q8_0, Q4_K, Q6_K = (
    WeightFormat.Q4_1,
    WeightFormat.Q8_0,
    WeightFormat.Q4_K,
    WeightFormat.Q6_K,
)
OURS = (DENSE, Q4_1, Q8_0, Q4_K, Q6_K)
TORCH_BF16 = (DENSE, Q4_1, Q8_CHANNEL)
TORCH = (DENSE,)


class PlainKernel(LinearKernel[Tensor | QuantizedWeight, Tensor]):
    """Keeps what a weight stands for, in float32."""

    def pack(self, weight: Tensor | QuantizedWeight) -> Tensor:
        return weight.to_dense() if isinstance(weight, QuantizedWeight) else weight.float()

    def size_bytes(self, packed: Tensor) -> int:
        return packed.nbytes

    def apply(self, x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        return torch.nn.functional.linear(x, packed, bias)


def method_of(
    quantization: Quantization = "auto", formats: tuple[WeightFormat, ...] = OURS
) -> LinearMethod:
    return LinearMethod(quantization, {name: PlainKernel() for name in formats})


@pytest.mark.parametrize(
    ("quantization", "formats", "stored", "kept"),
    [
        ("auto", OURS, Q6_K, Q6_K),
        ("auto", OURS, DENSE, DENSE),
        ("auto", TORCH_BF16, Q4_1, Q4_1),
        ("auto", TORCH_BF16, Q6_K, DENSE),
        ("none", OURS, Q6_K, DENSE),
        ("int4", OURS, Q4_K, Q4_K),  # in no more bits than asked for
        ("int4", OURS, Q6_K, Q4_1),
        ("int4", OURS, DENSE, Q4_1),
        ("int8", OURS, Q6_K, Q6_K),
        ("int8", OURS, DENSE, Q8_0),
        ("int4", TORCH_BF16, Q4_K, Q4_1),  # which it cannot multiply
        ("int8", TORCH_BF16, Q4_1, Q8_CHANNEL),
        ("auto", TORCH, Q4_1, DENSE),
    ],
)
def test_format_is_what_was_asked_for_if_there_is_a_kernel(
    quantization: Quantization,
    formats: tuple[WeightFormat, ...],
    stored: WeightFormat,
    kept: WeightFormat,
) -> None:
    assert method_of(quantization, formats).kept_format(stored, 512) is kept


@pytest.mark.parametrize("quantization", ["int4", "int8"])
def test_width_of_no_whole_blocks_is_not_rounded(quantization: Quantization) -> None:
    assert method_of(quantization).kept_format(DENSE, 40) is DENSE


def test_neighbours_of_one_format_are_one_weight() -> None:
    formats = [Q4_K, Q4_K, Q6_K, DENSE, DENSE]
    stored = [stored_of(name, 3 + i, 256, seed=i) for i, name in enumerate(formats)]
    stacked = method_of().stack(stored)
    assert [part.num_features for part in stacked.parts] == [3 + 4, 5, 6 + 7]
    assert stacked.size_bytes == 4 * 25 * 256


@pytest.mark.parametrize("formats", [[Q4_K, Q4_K], [Q4_K, Q4_K, Q6_K], [DENSE, Q4_1, DENSE]])
def test_parts_multiply_into_their_own_columns(formats: list[WeightFormat]) -> None:
    stored = [stored_of(name, 4 + 2 * i, 256, seed=i) for i, name in enumerate(formats)]
    whole = torch.cat([
        part.quantized.to_dense() if part.quantized else part.weight.float() for part in stored
    ])  # fmt: skip
    stacked = method_of().stack(stored)
    x, bias = randn(3, 256), randn(len(whole), seed=1)
    expected = x @ whole.T
    torch.testing.assert_close(stacked.apply(x), expected)
    torch.testing.assert_close(stacked.apply(x, bias), expected + bias)

    def gated(both: Tensor) -> Tensor:
        return both[:, ::2]

    torch.testing.assert_close(stacked.apply_gated(x, None, Gating(gated)), expected[:, ::2])


def test_blocks_of_the_file_are_not_rounded_again() -> None:
    stored = stored_in(quantize_int4(randn(4, 64)))
    assert stored.quantized is not None
    [part] = method_of("int4").stack([stored]).parts
    assert torch.equal(part.data, stored.quantized.to_dense())


def test_width_without_blocks_is_packed_as_it_is() -> None:
    assert not method_of().embeds(Q6_K, 256)
    assert method_of().pack(Stored(randn(3, 40))).size_bytes == 4 * 3 * 40
