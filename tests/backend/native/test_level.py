"""Which level serves, and what it multiplies activations as."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.native import MAX_LEVEL, levels
from backend.native.level import LEVELS, choose_activations, choose_level, describe

PAIRS = "avx512_bf16"
PRESENT = ["avx512_vnni", "avx2", "portable"]


def test_every_level_of_the_module_is_known_and_in_order() -> None:
    others = [level for level in levels() if level != PAIRS]
    assert others == [level for level in LEVELS if level in others]
    assert set(levels()) <= set(LEVELS)


@pytest.mark.skipif(PAIRS not in levels(), reason=f"needs {PAIRS}")
def test_pairs_of_bf16_come_behind_where_they_are_slow() -> None:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    is_slow = "GenuineIntel" in cpuinfo and "avx512_fp16" in cpuinfo.split()
    assert (levels().index(PAIRS) > levels().index("avx512_vnni")) is is_slow


def test_levels_above_one_that_a_test_names_are_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.native.kernels", SimpleNamespace(levels=lambda: list(LEVELS)))
    monkeypatch.setenv(MAX_LEVEL, "avx_vnni")
    assert levels() == ["avx_vnni", "avx2", "portable"]


@pytest.mark.parametrize("wanted", ["auto", "native"])
def test_best_level_serves_unless_one_is_named(wanted: str) -> None:
    assert choose_level(wanted, PRESENT) == "avx512_vnni"
    assert choose_level("avx2", PRESENT) == "avx2"


def test_level_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError) as refusal:
        choose_level("amx", PRESENT)
    lines = str(refusal.value).splitlines()
    assert lines[:2] == [
        "--kernels amx: this processor has no such level",
        "it has avx512_vnni, avx2, portable",
    ]
    assert len(lines) == 3


def test_activations_are_mixed_unless_they_are_named() -> None:
    assert choose_activations("auto", "amx") == "mixed"
    assert choose_activations("int8", "portable") == "int8"
    assert choose_activations("bf16", "avx512_bf16") == "bf16"


def test_bf16_activations_need_a_level_that_multiplies_them() -> None:
    with pytest.raises(ValueError) as refusal:
        choose_activations("bf16", "avx2")
    lines = str(refusal.value).splitlines()
    assert lines[:2] == [
        "--activations bf16: level avx2 does not multiply bf16",
        "amx and avx512_bf16 do",
    ]
    assert len(lines) == 3


def test_description_is_of_what_serves_and_why() -> None:
    assert describe("auto", "auto", "auto", PRESENT, "") == "avx512_vnni, mixed activations"
    assert describe("avx2", "int8", "bfloat16", PRESENT, "") == (
        "avx2 (--kernels; this processor has avx512_vnni), int8 activations"
    )
    assert describe("torch", "auto", "auto", PRESENT, "") == "PyTorch's kernels (--kernels torch)"
    assert describe("auto", "auto", "auto", [], "not built\nwhat to do") == (
        "PyTorch's kernels (not built)"
    )
    assert describe("auto", "auto", "float32", PRESENT, "") == (
        "PyTorch's kernels (--dtype float32; ours take bfloat16)"
    )
