"""Which form of a weight our own linear methods keep, and who multiplies by it."""

import pytest
import torch

from backend.engine.platform import select_method
from backend.linear.registry import create_method
from backend.native import absence, kernels
from backend.settings import EngineSettings
from tests.backend.stored_weights import Stored, randn, stored_of

needs_kernels = pytest.mark.skipif(kernels is None, reason=absence)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.linear.native.has_tiles", lambda: False)


@needs_kernels
@pytest.mark.parametrize("bits", [4, 8])
def test_weights_rounded_at_load_are_the_same_for_few_rows_and_many(bits: int) -> None:
    method = create_method(f"native_int{bits}", torch.bfloat16, CPU)
    packed = method.pack(Stored(randn(96, 576).bfloat16()))
    units = torch.eye(576).bfloat16()
    few = method.apply(units[:16], packed, None)
    assert torch.equal(few, method.apply(units, packed, None)[: len(few)])


@needs_kernels
@pytest.mark.parametrize("name", ["native", "native_dense", "native_int4", "native_int8"])
@pytest.mark.parametrize("bits", [4, 16])
def test_a_dense_form_is_kept_only_beside_amx(
    name: str, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = stored_of(bits, 96, 576)
    x = randn(64, 576).bfloat16()
    results = []
    for has_tiles in (False, True):
        monkeypatch.setattr("backend.linear.native.has_tiles", lambda has=has_tiles: has)
        method = create_method(name, torch.bfloat16, CPU)
        packed = method.pack(stored)
        kept = method.kept(None if bits == 16 else bits, 576)
        assert method.size_bytes(packed) == 96 * 576 * (kept.few_bits + 16 * kept.is_dense) // 8
        assert (packed.dense is not None) == has_tiles
        results.append((method.apply(x[:1], packed, None), method.apply(x, packed, None)))
    (few, many), (few_beside, many_beside) = results
    # Sums in another order: a bf16 result may be the neighbour of the other.
    torch.testing.assert_close(few, few_beside, rtol=2**-7, atol=2**-6)
    torch.testing.assert_close(many, many_beside, rtol=2**-7, atol=2**-6)


@needs_kernels
def test_a_width_that_is_no_multiple_of_a_group_is_left_to_onednn() -> None:
    weight = randn(48, 40).bfloat16()
    x = randn(5, 40).bfloat16()
    for name in ("native", "native_dense", "native_int4"):
        method = create_method(name, torch.bfloat16, CPU)
        packed = method.pack(Stored(weight))
        assert packed.blocks is None and method.look_up(packed) is None
        product = method.apply(x, packed, None)
        torch.testing.assert_close(product, x @ weight.T, rtol=2**-7, atol=0.1)


@needs_kernels
def test_weights_in_groups_are_dense_where_that_is_asked_for() -> None:
    stored = stored_of(4, 96, 576)
    dense = create_method("native_dense", torch.bfloat16, CPU).pack(stored)
    plain = create_method("native", torch.bfloat16, CPU).pack(Stored(stored.weight))
    assert torch.equal(dense.blocks.data, plain.blocks.data)


@needs_kernels
@pytest.mark.parametrize("bits", [4, 8])
def test_groups_of_the_file_are_not_rounded_again(bits: int) -> None:
    stored = stored_of(4, 96, 576)
    packed = [
        create_method(name, torch.bfloat16, CPU).pack(stored)
        for name in ("native", f"native_int{bits}")
    ]
    assert torch.equal(packed[0].blocks.data, packed[1].blocks.data)


@pytest.mark.parametrize("quantization", ["auto", "int4", "int8", "none"])
@pytest.mark.parametrize("choice", ["auto", "native", "torch"])
def test_groups_are_multiplied_by_our_kernels_where_they_are(
    quantization: str, choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.engine.platform.few_bit_kernels_work", lambda: True)
    torchs = {"auto": "grouped", "int4": "int4", "int8": "int8", "none": "dense"}
    ours = {"auto": "native", "int4": "native_int4", "int8": "native_int8"}
    ours["none"] = "native_dense"
    settings = EngineSettings(model="m", quantization=quantization, kernels=choice)  # type: ignore[arg-type]
    for present in (object(), None):
        monkeypatch.setattr("backend.engine.platform.kernels", present)
        expected = ours if present and choice != "torch" else torchs
        assert select_method(settings, torch.bfloat16, CPU) == expected[quantization]
    if quantization in ("auto", "none"):
        assert select_method(settings, torch.float32, CPU) == "dense"
