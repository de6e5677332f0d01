"""The level of tiles (AMX) has the bits of the level below, its tiles in C: a test needs no AMX."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

import backend.linear.native
import backend.native
from backend import native
from backend.linear.kernel import Gating
from backend.linear.native import GROUP, NativeKernel, PackedBlocks
from backend.native import absence, calls, kernels, levels
from backend.native.level import Activations
from backend.ops.native import NativeOps
from backend.quant.weight_format import BLOCK_FORMATS, WeightFormat
from tests.backend.stored_weights import quantized_of, randn, stored_of, uneven_rows

SOURCES = Path(backend.native.__file__).parent
IN_C = Path(__file__).parent / "tiles_in_c.h"
FLAGS = "gcc -std=c11 -O2 -ffp-contract=off -pthread -fPIC -shared -Wall -Wextra -Werror".split()
THREADS = 3

pytestmark = [
    pytest.mark.numerics,
    pytest.mark.skipif(kernels is None, reason=absence),
    pytest.mark.skipif("avx512_bf16" not in levels(), reason="needs the level below"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]


Compare = Callable[[Callable[[], list[Tensor]]], None]


class Kernels(ctypes.Structure):
    """The first functions of a level, as levels/levels.h has them."""

    _fields_ = [
        ("level", ctypes.c_char_p),
        *((name, ctypes.c_void_p) for name in ("packed_size", "pack", "prepare")),
        *((name, ctypes.c_void_p) for name in ("gemm", "grouped_gemm", "head_gemm", "argmax")),
    ]


@dataclass(frozen=True, slots=True)
class Level:
    """Stands where the extension does: multiplies at a level that it need not have."""

    table: Kernels

    def gemm(self, call: calls.Gemm) -> None:
        self._call("gemm", call)

    def grouped_gemm(self, call: calls.GroupedGemm) -> None:
        self._call("grouped_gemm", call)

    def argmax(self, call: calls.Argmax) -> None:
        self._call("argmax", call)

    def _call(self, name: str, call: ctypes.Structure) -> None:
        function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(getattr(self.table, name))
        assert function(ctypes.addressof(call)) == 0


# One of each kind: spans of 32 and of 16 columns, without and with mins.
KINDS = [WeightFormat.Q8_0, WeightFormat.Q4_1, WeightFormat.Q6_K, WeightFormat.Q2_K]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Level:
    """The level with tiles in C. What it takes from others it finds in the extension."""
    ctypes.CDLL(kernels.__file__, mode=ctypes.RTLD_GLOBAL)
    target = tmp_path_factory.mktemp("tiles") / "tiles.so"
    source = SOURCES / "levels" / "amx.c"
    macro = f'-DTILES_IN_C="{IN_C}"'
    subprocess.run([*FLAGS, "-Wl,-Bsymbolic", macro, str(source), "-o", str(target)], check=True)
    return Level(Kernels.in_dll(ctypes.CDLL(str(target)), "kernels_amx"))


@pytest.fixture
def compare(tiles: Level, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compare]:
    """Hold the bits of both levels equal in each of the results of a product."""

    def both(product: Callable[[], list[Tensor]]) -> None:
        kernels.use("avx512_vnni")
        monkeypatch.setattr(backend.linear.native, "kernels", kernels)
        expected = product()
        monkeypatch.setattr(backend.linear.native, "kernels", tiles)
        for one, other in zip(product(), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)

    native.set_num_threads(THREADS)
    yield both
    native.set_num_threads(torch.get_num_threads())
    kernels.use(levels()[0])


def pack(
    weight_format: WeightFormat, activations: Activations, features: int, width: int
) -> tuple[NativeKernel, PackedBlocks]:
    kernel = NativeKernel(weight_format, activations)
    return kernel, kernel.pack(quantized_of(weight_format, features, width))


@pytest.mark.parametrize("activations", ["int8", "int16", "mixed"])
@pytest.mark.parametrize("weight_format", BLOCK_FORMATS)
def test_tiles_have_the_bits_of_vectors(
    weight_format: WeightFormat, activations: Activations, compare: Compare
) -> None:
    """Any number of rows, and a last column of features that is not full."""
    kernel, packed = pack(weight_format, activations, 37, 256)
    x = uneven_rows(70, 256)
    compare(lambda: [kernel.logits(x[:rows], packed) for rows in range(71)])


@pytest.mark.pairwise
@pytest.mark.parametrize("activations", ["int8", "int16", "mixed"])
@pytest.mark.parametrize("weight_format", KINDS)
@pytest.mark.parametrize("groups", [9, 39, 72])
def test_tiles_take_any_width(
    weight_format: WeightFormat, activations: Activations, groups: int, compare: Compare
) -> None:
    """An odd number of spans, and more columns than a part of K has."""
    width = groups * GROUP - groups * GROUP % weight_format.block_size
    kernel, packed = pack(weight_format, activations, 50, width)
    x = uneven_rows(41, width)
    compare(lambda: [kernel.logits(x, packed), kernel.logits(x[:12], packed)])


@pytest.mark.parametrize("activations", ["int8", "int16", "mixed"])
@pytest.mark.parametrize("weight_format", KINDS)
def test_tiles_serve_each_epilogue(
    weight_format: WeightFormat, activations: Activations, compare: Compare
) -> None:
    kernel, packed = pack(weight_format, activations, 96, 1280)
    x, bias = uneven_rows(41, 1280), randn(96, seed=1).bfloat16()
    bad = x.clone()
    bad[3, 700], bad[20, 5] = torch.nan, torch.inf
    silu_mul = NativeOps().silu_mul
    compare(
        lambda: [
            kernel.apply(bad, packed, bias),
            kernel.apply_gated(x, packed, None, Gating(silu_mul)),
            *kernel.argmax(x, packed),
        ]
    )


@pytest.mark.parametrize("activations", ["int8", "int16", "mixed"])
def test_tiles_serve_groups_of_rows(activations: Activations, compare: Compare) -> None:
    """Of some groups all rows are in tiles, of some a few, of some none."""
    kernel = NativeKernel(WeightFormat.Q4_K, activations)
    weights = [kernel.pack(quantized_of(WeightFormat.Q4_K, 96, 512, seed)) for seed in range(5)]
    counts = torch.tensor([16, 0, 41, 3, 12])
    x = uneven_rows(int(counts.sum()), 512)
    compare(lambda: [kernel.grouped(weights).apply(x, counts.cumsum(0))])


def test_tiles_of_many_parts_have_the_same_bits(compare: Compare) -> None:
    """More rows than wait for the next part of K."""
    kernel, packed = pack(WeightFormat.Q6_K, "int16", 50, 1280)
    x = randn(150, 1280).bfloat16()
    compare(lambda: [kernel.logits(x, packed)])


@pytest.mark.parametrize(
    "weight_format, level",
    [(WeightFormat.Q4_0, "avx512_bf16"), (WeightFormat.DENSE, "avx512_vnni")],
)
def test_products_of_bf16_are_left_to_vectors(
    weight_format: WeightFormat, level: str, tiles: Level
) -> None:
    kernels.use(level)
    kernel = NativeKernel(weight_format, "bf16")
    stored = stored_of(weight_format, 37, 256)
    packed = kernel.pack(stored.quantized or stored.weight)
    x = randn(40, 256).bfloat16()
    expected = kernel.logits(x, packed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend.linear.native, "kernels", tiles)
        assert torch.equal(kernel.logits(x, packed), expected)
    kernels.use(levels()[0])
