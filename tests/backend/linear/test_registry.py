"""Who multiplies by a weight: the table, and what settings choose from it."""

from types import SimpleNamespace

import pytest
import torch

from backend.engine.platform import linear_level, select_linear_method
from backend.linear.native import NativeDenseKernel, NativeQ4Kernel, NativeQ8Kernel
from backend.linear.onednn import OneDnnKernel
from backend.linear.registry import KERNELS, create_method
from backend.linear.torch_weight_only import TorchInt4Kernel, TorchInt8Kernel
from backend.native import absence, kernels
from backend.quant.weight_format import WeightFormat
from backend.settings import EngineSettings
from tests.backend.stored_weights import stored_of

CPU = torch.device("cpu")
BF16 = torch.bfloat16


def test_every_device_and_level_has_a_dense_kernel() -> None:
    assert {(device, level) for _, device, level in KERNELS} == {
        (device, level)
        for weight_format, device, level in KERNELS
        if weight_format is WeightFormat.DENSE
    }


@pytest.mark.parametrize(
    ("bits", "level", "expected"),
    [
        (4, "avx512_bf16", NativeQ4Kernel),
        (8, "avx512_bf16", NativeQ8Kernel),
        (16, "avx512_bf16", NativeDenseKernel),
        (4, "torch_bf16", TorchInt4Kernel),
        (8, "torch_bf16", OneDnnKernel),
        (16, "torch_bf16", OneDnnKernel),
        (4, "torch", OneDnnKernel),
    ],
)
def test_weight_gets_the_kernel_of_its_format(bits: int, level: str, expected: type) -> None:
    if level == "avx512_bf16" and kernels is None:
        pytest.skip(absence)
    packed = create_method("auto", level, BF16, CPU).pack(stored_of(bits, 64, 64))
    assert type(packed.kernel) is expected


def test_rounding_to_8_bits_without_our_kernels_is_by_channel() -> None:
    packed = create_method("int8", "torch_bf16", BF16, CPU).pack(stored_of(4, 64, 64))
    assert type(packed.kernel) is TorchInt8Kernel


@pytest.mark.parametrize("choice", ["auto", "native", "torch"])
def test_our_kernels_serve_where_they_are(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.engine.platform.weight_only_kernels_work", lambda: True)
    monkeypatch.setattr("backend.engine.platform.has_tiles", lambda: False)
    settings = EngineSettings(model="m", kernels=choice)  # type: ignore[arg-type]
    monkeypatch.setattr("backend.engine.platform.levels", lambda: ["avx512_bf16"])
    for present in (SimpleNamespace(use=lambda level: None), None):
        monkeypatch.setattr("backend.engine.platform.kernels", present)
        is_ours = present is not None and choice != "torch"
        assert linear_level(settings, BF16, CPU) == ("avx512_bf16" if is_ours else "torch_bf16")
        assert linear_level(settings, torch.float32, CPU) == "torch"
        assert linear_level(EngineSettings(model="m", exact=True), BF16, CPU) == "exact"


def test_rounding_without_kernels_for_it_is_refused() -> None:
    settings = EngineSettings(model="m", quantization="int4")
    with pytest.raises(ValueError, match="--quantization int4 needs a CPU"):
        select_linear_method(settings, torch.float32, CPU)


def test_level_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    monkeypatch.setattr("backend.engine.platform.kernels", SimpleNamespace(use=used.append))
    monkeypatch.setattr("backend.engine.platform.levels", lambda: ["avx512_bf16"])
    monkeypatch.setattr("backend.engine.platform.has_tiles", lambda: True)
    assert linear_level(EngineSettings(model="m"), BF16, CPU) == "amx_bf16"
    forced = EngineSettings(model="m", kernels="avx512_bf16")
    assert linear_level(forced, BF16, CPU) == "avx512_bf16"
    monkeypatch.setattr("backend.engine.platform.has_tiles", lambda: False)
    with pytest.raises(ValueError, match="has no such level"):
        linear_level(EngineSettings(model="m", kernels="amx_bf16"), BF16, CPU)
    assert used == ["avx512_bf16", "avx512_bf16"]
