"""Who multiplies by a weight: the table."""

import pytest
import torch

from backend.linear.native import NativeKernel
from backend.linear.onednn import OneDnnKernel
from backend.linear.registry import KERNELS, create_method, kept_weights
from backend.linear.torch_weight_only import TorchInt4Kernel, TorchInt8Kernel
from backend.native import absence, kernels
from backend.native.level import LEVELS
from backend.quant.weight_format import BLOCK_FORMATS, WeightFormat
from tests.backend.stored_weights import stored_of

CPU = torch.device("cpu")
BF16 = torch.bfloat16


def test_every_device_and_level_has_a_dense_kernel() -> None:
    assert {(device, level) for _, device, level in KERNELS} == {
        (device, level)
        for weight_format, device, level in KERNELS
        if weight_format is WeightFormat.DENSE
    }


@pytest.mark.parametrize("level", LEVELS)
def test_our_kernels_have_every_format(level: str) -> None:
    assert {name for name, device, own in KERNELS if (device, own) == ("cpu", level)} == {
        WeightFormat.DENSE,
        *BLOCK_FORMATS,
    }


@pytest.mark.parametrize(
    ("weight_format", "level", "expected"),
    [
        (WeightFormat.Q4_0, "torch_bf16", TorchInt4Kernel),
        (WeightFormat.Q4_1, "torch_bf16", TorchInt4Kernel),
        (WeightFormat.Q8_0, "torch_bf16", OneDnnKernel),
        (WeightFormat.DENSE, "torch_bf16", OneDnnKernel),
        (WeightFormat.Q4_1, "torch", OneDnnKernel),
    ],
)
def test_weight_gets_the_kernel_of_its_format(
    weight_format: WeightFormat, level: str, expected: type
) -> None:
    packed = create_method("auto", level, BF16, CPU).pack(stored_of(weight_format, 64, 64))
    assert type(packed.kernel) is expected


@pytest.mark.skipif(kernels is None, reason=absence)
@pytest.mark.parametrize("weight_format", [WeightFormat.DENSE, *BLOCK_FORMATS])
def test_weight_gets_our_kernel(weight_format: WeightFormat) -> None:
    packed = create_method("auto", "portable", BF16, CPU).pack(stored_of(weight_format, 64, 256))
    assert type(packed.kernel) is NativeKernel


def test_rounding_to_8_bits_without_our_kernels_is_by_channel() -> None:
    packed = create_method("int8", "torch_bf16", BF16, CPU).pack(
        stored_of(WeightFormat.Q4_1, 64, 64)
    )
    assert type(packed.kernel) is TorchInt8Kernel


@pytest.mark.parametrize("level", ["portable", "torch_bf16", "torch", "exact", "triton"])
def test_kernels_are_those_that_the_kept_formats_name(level: str) -> None:
    if level == "triton":
        pytest.importorskip("triton", reason="Triton is not installed")
    kept = kept_weights("auto", level, BF16)
    method = create_method("auto", level, BF16, torch.device("cuda") if level == "triton" else CPU)
    for weight_format in WeightFormat:
        assert kept.kept_format(weight_format, 256) is method.kept_format(weight_format, 256)
        assert kept.embeds == method.embeds(weight_format, 256)
