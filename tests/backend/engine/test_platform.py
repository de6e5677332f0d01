"""What settings choose to compute with; what is not to be had is refused, with what to do."""

import runpy
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import backend.native
from backend.config.errors import ModelError
from backend.engine.platform import Platform, resolve_dtype, select_level
from backend.ops.cpu import CpuOps
from backend.ops.exact import ExactOps
from backend.ops.native import NativeOps
from backend.settings import EngineSettings
from tests.backend.factories import tiny_config

BF16 = torch.bfloat16
CPU = torch.device("cpu")


class FakeKernels:
    """The module in C, of a processor with two levels."""

    def __init__(self) -> None:
        self.used: list[str] = []

    def use(self, level: str) -> None:
        self.used.append(level)

    def level(self) -> str:
        return self.used[-1]

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "FakeKernels":
        for module in ("engine.platform", "ops.native"):
            monkeypatch.setattr(f"backend.{module}.kernels", self)
        monkeypatch.setattr("backend.engine.platform.absence", "")
        monkeypatch.setattr("backend.engine.platform.levels", lambda: ["avx512_vnni", "avx2"])
        return self


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> FakeKernels:
    """Have kernels of ours at hand."""
    return FakeKernels().install(monkeypatch)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no kernels of ours, but torch's weight-only ones."""
    monkeypatch.setattr("backend.engine.platform.kernels", None)
    monkeypatch.setattr("backend.engine.platform.levels", list)
    monkeypatch.setattr("backend.engine.platform.absence", "they were not built")
    monkeypatch.setattr("backend.engine.platform.weight_only_kernels_work", lambda: True)


def told(**settings: Any) -> EngineSettings:
    return EngineSettings(model="m", **settings)


def description(dtype: torch.dtype = BF16, **settings: Any) -> str:
    name = str(dtype).removeprefix("torch.")
    settings = {"dtype": name, **settings}
    return Platform.choose(told(**settings), dtype, CPU, tiny_config()).description


@pytest.mark.parametrize("choice", ["auto", "native"])
def test_our_kernels_serve_at_their_best_level(ours: FakeKernels, choice: str) -> None:
    assert select_level(told(kernels=choice), BF16, CPU) == "avx512_vnni"
    assert ours.used == ["avx512_vnni"]


def test_level_can_be_forced(ours: FakeKernels) -> None:
    assert select_level(told(kernels="avx2"), BF16, CPU) == "avx2"
    assert ours.used == ["avx2"]
    with pytest.raises(ModelError, match="it has avx512_vnni, avx2"):
        select_level(told(kernels="amx"), BF16, CPU)


@pytest.mark.usefixtures("ours")
def test_exact_mode_has_our_kernels_where_they_serve() -> None:
    assert select_level(told(exact=True), BF16, CPU) == "avx512_vnni"
    assert select_level(told(exact=True), torch.float32, CPU) == "exact"
    assert select_level(told(exact=True, kernels="torch"), BF16, CPU) == "exact"


@pytest.mark.usefixtures("absent")
def test_torchs_kernels_serve_where_ours_do_not() -> None:
    assert select_level(told(), BF16, CPU) == "torch_bf16"
    assert select_level(told(), torch.float32, CPU) == "torch"
    assert select_level(told(exact=True), BF16, CPU) == "exact"


@pytest.mark.usefixtures("ours")
def test_dtype_is_bfloat16_wherever_our_kernels_serve() -> None:
    assert resolve_dtype(told(), CPU) == "bfloat16"
    assert resolve_dtype(told(dtype="float32"), CPU) == "float32"


@pytest.mark.parametrize(("has_bf16", "dtype"), [(True, "bfloat16"), (False, "float32")])
@pytest.mark.usefixtures("ours")
def test_dtype_of_torchs_kernels_is_what_processor_multiplies(
    has_bf16: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = SimpleNamespace(
        _is_avx512_bf16_supported=lambda: has_bf16, _is_amx_tile_supported=lambda: False
    )
    monkeypatch.setattr("torch.cpu", features)
    assert resolve_dtype(told(kernels="torch"), CPU) == dtype


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.usefixtures("ours")
def test_ops_are_ours_where_they_take_the_models_sizes(
    exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for takes, expected in ((True, NativeOps), (False, ExactOps if exact else CpuOps)):
        monkeypatch.setattr(NativeOps, "takes", staticmethod(lambda *sizes, t=takes: t))
        platform = Platform.choose(told(exact=exact), BF16, CPU, tiny_config())
        assert type(platform.ops) is expected


@pytest.mark.usefixtures("ours")
def test_description_names_level_and_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NativeOps, "takes", staticmethod(lambda *sizes: True))
    assert description() == "avx512_vnni, mixed activations"
    assert description(activations="int8") == "avx512_vnni, int8 activations"


@pytest.mark.usefixtures("ours")
def test_description_says_why_it_is_not_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NativeOps, "takes", staticmethod(lambda *sizes: True))
    assert description(kernels="avx2") == (
        "avx2 (--kernels; this processor has avx512_vnni), mixed activations"
    )
    assert description(kernels="torch") == "PyTorch's kernels (--kernels torch)"
    assert description(torch.float32) == ("PyTorch's kernels (--dtype float32; ours take bfloat16)")
    monkeypatch.setattr(NativeOps, "takes", staticmethod(lambda *sizes: False))
    assert description(block_size=8) == (
        "avx512_vnni, mixed activations, "
        "attention by PyTorch: ours takes no heads of 8 in blocks of 8"
    )


@pytest.mark.usefixtures("absent")
def test_description_says_why_ours_are_absent() -> None:
    assert description() == "PyTorch's kernels (they were not built)"


@pytest.mark.usefixtures("absent")
def test_activations_are_refused_where_nothing_quantises_them() -> None:
    with pytest.raises(ModelError, match="--activations int16: PyTorch's kernels") as refusal:
        description(activations="int16")
    assert len(str(refusal.value).splitlines()) == 3


@pytest.mark.usefixtures("ours")
def test_bf16_activations_are_refused_below_their_level() -> None:
    with pytest.raises(ModelError, match="level avx512_vnni does not multiply bf16"):
        description(activations="bf16")


@pytest.mark.usefixtures("absent")
def test_kv_of_8_bits_is_refused_where_pytorch_attends() -> None:
    with pytest.raises(ModelError, match="--kv-cache-dtype int8: PyTorch attends") as refusal:
        description(kv_cache_dtype="int8")
    assert str(refusal.value).splitlines()[1] == "PyTorch's kernels (they were not built)"


@pytest.mark.usefixtures("ours")
def test_kv_in_fp8_is_refused_on_a_cpu() -> None:
    with pytest.raises(ModelError, match="in fp8 on a GPU alone") as refusal:
        description(kv_cache_dtype="fp8")
    assert str(refusal.value).splitlines()[-1].startswith("take int8")


@pytest.mark.usefixtures("absent")
def test_rounding_without_kernels_for_it_is_refused() -> None:
    with pytest.raises(ModelError, match="--quantization int4 needs a GPU"):
        description(torch.float32, quantization="int4")


@pytest.mark.usefixtures("ours")
def test_our_kernels_are_refused_in_another_dtype() -> None:
    with pytest.raises(ModelError, match="--kernels avx2: our own kernels take bfloat16 on a CPU"):
        select_level(told(kernels="avx2"), torch.float32, CPU)


def test_kernels_not_built_are_refused_with_the_way_to_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "backend.native._kernels", None)
    fresh = runpy.run_path(str(backend.native.__file__))
    assert fresh["kernels"] is None
    monkeypatch.setattr("backend.engine.platform.kernels", None)
    monkeypatch.setattr("backend.engine.platform.absence", fresh["absence"])
    with pytest.raises(ModelError) as refusal:
        select_level(told(kernels="native"), BF16, CPU)
    lines = str(refusal.value).splitlines()
    assert lines[0] == "--kernels native: the kernels were not built when Unisono was installed"
    assert len(lines) <= 5 and "gcc" in lines[1] and "pip install" in lines[2]
