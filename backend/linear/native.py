"""Weights in the file's groups of 4 or 8 bits, or in bf16, multiplied by our own kernels.

bf16 activations, float32 sums, a row alone as in company of the same kind; see few_rows.c and
many_rows.c in backend/native. Nothing else is kept of a weight, except on processors whose AMX
multiplies many rows several times as fast as vectors do: there oneDNN has a dense form of what is
in groups as well, and bf16 to itself. It also has what is no multiple of 32 wide.

Measured on a Zen 5 server (no AMX), weights cold, ms for few rows' kernel / many rows' / oneDNN's
bf16. All linears of the default model but the head, two threads: 1 row 1.8 / 3.7 / 7.2, 4 rows 2.0
/ 3.8 / -, 8 rows 2.8 / 4.4 / 7.9, 16 rows 5.2 / 6.4 / 9.6, 24 rows 7.3 / 8.1 / 11.5, 32 rows 9.4 /
9.7 / -, 64 rows - / 17 / 22, 512 rows - / 119 / 125; one thread: 1 row 2.6 / 6.9 / 8.5, 8 rows 4.8
/ 8.1 / -, 16 rows 9.0 / 11.8 / 15.7, 24 rows 13.5 / 15.3 / -, 64 rows - / 33 / 38. The head, 49152
x 576 in 8 bits, float32 results, few rows' / many rows': 1 row 0.7 / 1.0, 8 rows 0.9 / 1.2, 16 rows
1.7 / 1.8, 24 rows 2.3 / 2.2, 32 rows 3.0 / 2.9. All linears in bf16, two threads, few rows' / many
rows' / oneDNN's: 1 row 5.5 / 6.7 / 7.6, 8 rows 6.1 / 7.2 / 8.7, 16 rows 7.6 / 9.1 / 10.2, 32 rows
11.0 / 12.8 / 14.4, 64 rows - / 20 / 22.5, 128 rows - / 35.2 / 37.4.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from backend.linear.method import LookUp, SiluMul, WeightFootprint
from backend.linear.onednn import DenseMethod
from backend.native import kernels
from backend.quant.groups import GROUP_SIZE, Groups
from backend.quant.stored import StoredWeight, round_to_groups

# Of each weight, its share of scale and minimum included.
STORED_BITS = {4: 5.0, 8: 8.5}
# With AMX, of what is in groups. A guess: nothing was measured there.
MAX_ROWS_BESIDE_TILES = 24

# products.h: ProductForm, by what becomes of the features.
BF16, FLOAT, GATED = range(3)
# A gate's features and those it gates are taken 16 at a time.
LANES = 16


@dataclass(frozen=True, slots=True)
class _Blocks:
    """A weight as the kernels take it: groups.h."""

    data: Tensor
    bits: int
    features: int
    width: int


@dataclass(frozen=True, slots=True)
class _Packed:
    """A weight in one form or both."""

    dense: Tensor | None
    blocks: _Blocks | None


class NativeMethod(DenseMethod):
    """A LinearMethod: the file's own groups of 4 or 8 bits; the rest as it is."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(dtype, device)
        self._has_tiles = has_tiles()

    def pack(self, stored: StoredWeight) -> _Packed:  # type: ignore[override]
        groups = stored.read_groups()
        return self._pack_whole(stored.read()) if groups is None else self._pack_groups(groups)

    def _pack_groups(self, groups: Groups) -> _Packed:
        blocks = _blocks_of(groups.bits, groups.values, groups.scales, groups.minimums)
        if not self._has_tiles:
            return _Packed(None, blocks)
        return _Packed(self.pack_dense(groups.to_dense().to(torch.bfloat16)), blocks)

    def _pack_whole(self, weight: Tensor) -> _Packed:
        if self._has_tiles or weight.shape[1] % GROUP_SIZE:
            return _Packed(self.pack_dense(weight), None)
        return _Packed(None, _blocks_of(16, weight.contiguous()))

    def kept(self, group_bits: int | None, width: int) -> WeightFootprint:
        if group_bits is None:
            return WeightFootprint(True, 0, looks_up=not (self._has_tiles or width % GROUP_SIZE))
        return WeightFootprint(self._has_tiles, STORED_BITS[group_bits], looks_up=group_bits == 8)

    def size_bytes(self, packed: _Packed) -> int:  # type: ignore[override]
        dense = 0 if packed.dense is None else super().size_bytes(packed.dense)
        return dense + (0 if packed.blocks is None else packed.blocks.data.nbytes)

    def apply(self, x: Tensor, packed: _Packed, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        blocks = self._pick(x, packed)
        if blocks is None:
            assert packed.dense is not None
            return super().apply(x, packed.dense, bias)
        out = _multiply(x, blocks, BF16)
        return out if bias is None else out.add_(bias)

    def apply_gated(  # type: ignore[override]
        self, x: Tensor, packed: _Packed, bias: Tensor | None, silu_mul: SiluMul
    ) -> Tensor:
        blocks = self._pick(x, packed)
        if blocks is None or bias is not None or blocks.features % (2 * LANES):
            return silu_mul(self.apply(x, packed, bias))
        return _multiply(x, blocks, GATED)

    def score(self, x: Tensor, packed: _Packed) -> Tensor:  # type: ignore[override]
        blocks = self._pick(x, packed)
        if blocks is None:
            return self.apply(x, packed, None).float()
        return _multiply(x, blocks, FLOAT)

    def best(self, x: Tensor, packed: _Packed) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        blocks = self._pick(x, packed)
        if blocks is None:
            return super().best(x, packed)  # type: ignore[arg-type]
        return _best(x, blocks)

    def look_up(self, packed: _Packed) -> LookUp | None:  # type: ignore[override]
        if packed.blocks is None or packed.blocks.bits == 4:
            return None
        return partial(_look_up, packed.blocks)

    @staticmethod
    def _pick(x: Tensor, packed: _Packed) -> _Blocks | None:
        """Return the blocks to multiply by, if it is not the dense form."""
        blocks = packed.blocks
        if packed.dense is None or blocks is None:
            return blocks
        return blocks if len(x) <= MAX_ROWS_BESIDE_TILES else None


class NativeDenseMethod(NativeMethod):
    """Every weight as the arithmetic has it, whatever groups the file holds it in."""

    def pack(self, stored: StoredWeight) -> _Packed:  # type: ignore[override]
        return self._pack_whole(stored.read())

    def kept(self, group_bits: int | None, width: int) -> WeightFootprint:
        return super().kept(None, width)


class _RoundingMethod(NativeMethod):
    bits: int

    def pack(self, stored: StoredWeight) -> _Packed:  # type: ignore[override]
        groups = round_to_groups(stored, self.bits)
        return super().pack(stored) if groups is None else self._pack_groups(groups)

    def kept(self, group_bits: int | None, width: int) -> WeightFootprint:
        bits = None if width % GROUP_SIZE else min(group_bits or self.bits, self.bits)
        return super().kept(bits, width)


class NativeInt4Method(_RoundingMethod):
    """Every weight rounded to 4-bit groups, unless the file holds it so already."""

    bits = 4


class NativeInt8Method(_RoundingMethod):
    """Every weight rounded to 8-bit groups, unless the file holds it in groups already."""

    bits = 8


def has_tiles() -> bool:
    """Whether oneDNN multiplies by AMX here."""
    return torch.cpu._is_amx_tile_supported()


def _blocks_of(
    bits: int, values: Tensor, scales: Tensor | None = None, minimums: Tensor | None = None
) -> _Blocks:
    features, width = values.shape
    data = torch.empty(kernels.packed_size(bits, features, width), dtype=torch.uint8)
    parts = [0 if part is None else part.data_ptr() for part in (values, scales, minimums)]
    kernels.pack(bits, features, width, *parts, data.data_ptr())
    return _Blocks(data, bits, features, width)


def _multiply(x: Tensor, weight: _Blocks, form: int) -> Tensor:
    x = x.contiguous()
    features = weight.features // 2 if form == GATED else weight.features
    out = torch.empty(len(x), features, dtype=torch.float32 if form == FLOAT else torch.bfloat16)
    kernels.product(*_factors(x, weight), out.data_ptr(), form)
    return out


def _best(x: Tensor, weight: _Blocks) -> tuple[Tensor, Tensor]:
    x = x.contiguous()
    values, ids = torch.empty(len(x)), torch.empty(len(x), dtype=torch.int64)
    kernels.best(*_factors(x, weight), values.data_ptr(), ids.data_ptr())
    return values, ids


def _factors(x: Tensor, weight: _Blocks) -> tuple[int, ...]:
    shape = (len(x), weight.features, weight.width)
    return weight.bits, *shape, x.data_ptr(), weight.data.data_ptr()


def _look_up(weight: _Blocks, ids: Tensor) -> Tensor:
    out = torch.empty(len(ids), weight.width, dtype=torch.bfloat16)
    ids = ids.int().contiguous()
    place = (weight.data.data_ptr(), weight.features, weight.width)
    kernels.look_up(weight.bits, *place, ids.data_ptr(), len(ids), out.data_ptr())
    return out
