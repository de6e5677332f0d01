"""Weights in the file's groups, multiplied by our own kernels while there are few rows.

bf16 activations, float32 sums, a row alone as in company; see backend/native/products.c. With more
rows oneDNN's bf16 products run at the processor's peak, and the dense form serves: both are kept.

Measured on a Zen 5 server (no AMX), weights cold, ms for ours / torch's int4pack / bf16. All
linears of the default model but the head, two threads: 1 row 2.1 / 3.0 / 8.1, 8 rows 3.4 / 6.5 /
8.6, 16 rows 6.2 / - / 10.8, 24 rows 9.6 / - / 12.4, 28 rows 12.1 / - / 13.2; one thread: 1 row 3.0
/ 4.7 / 9.9, 8 rows 6.2 / 12.1 / 13.1, 24 rows 18.3 / - / 20.4. Three heads of 49152 x 576 in 8
bits, float32 results, two threads: 1 row 2.1 / 4.5, 8 rows 2.7 / 5.1, 16 rows 5.1 / 6.8, 20 rows
6.9 / 7.5, 24 rows 8.6 / 8.4; one thread: 20 rows 13.1 / 13.2.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from backend.native import kernels
from backend.quant import LookUp, StoredWeight
from backend.quant.dense import DenseMethod
from backend.quant.groups import Groups, round_to_groups

MAX_ROWS = {4: 24, 8: 20}


@dataclass(frozen=True, slots=True)
class _Packed:
    """A weight in both forms. few_bits: None where the file does not group it."""

    dense: Tensor
    few_bits: Tensor | None
    bits: int
    features: int


class NativeMethod(DenseMethod):
    """A LinearMethod: the file's own groups of 4 or 8 bits; the rest stays dense."""

    def pack(self, stored: StoredWeight) -> _Packed:  # type: ignore[override]
        return self._pack_both(stored.read(), stored.read_groups())

    def _pack_both(self, weight: Tensor, groups: Groups | None) -> _Packed:
        few_bits = None if groups is None else _pack(groups)
        bits = 0 if groups is None else groups.bits
        features = len(weight)
        return _Packed(self.pack_dense(weight), few_bits, bits, features)

    def size_bytes(self, packed: _Packed) -> int:  # type: ignore[override]
        few_bits = 0 if packed.few_bits is None else packed.few_bits.nbytes
        return super().size_bytes(packed.dense) + few_bits

    def apply(self, x: Tensor, packed: _Packed, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        if packed.few_bits is None or len(x) > MAX_ROWS[packed.bits]:
            return super().apply(x, packed.dense, bias)
        out = _multiply(x, packed, packed.few_bits, torch.bfloat16)
        return out if bias is None else out.add_(bias)

    def score(self, x: Tensor, packed: _Packed) -> Tensor:  # type: ignore[override]
        if packed.few_bits is None or len(x) > MAX_ROWS[packed.bits]:
            return self.apply(x, packed, None).float()
        return _multiply(x, packed, packed.few_bits, torch.float32)

    def look_up(self, packed: _Packed) -> LookUp | None:  # type: ignore[override]
        if packed.few_bits is None or packed.bits != 8:
            return None
        return partial(_look_up, packed.few_bits, packed.features, packed.dense.shape[1])


class _RoundingMethod(NativeMethod):
    bits: int

    def pack(self, stored: StoredWeight) -> _Packed:  # type: ignore[override]
        return self._pack_both(*round_to_groups(stored.read(), stored.read_groups(), self.bits))


class NativeInt4Method(_RoundingMethod):
    """Every weight rounded to 4-bit groups, unless the file holds it so already."""

    bits = 4


class NativeInt8Method(_RoundingMethod):
    """Every weight rounded to 8-bit groups, unless the file holds it in groups already."""

    bits = 8


def _pack(groups: Groups) -> Tensor:
    features, width = groups.values.shape
    packed = torch.empty(kernels.packed_size(groups.bits, features, width), dtype=torch.uint8)
    kernels.pack_groups(
        groups.bits,
        features,
        width,
        groups.values.data_ptr(),
        groups.scales.data_ptr(),
        0 if groups.minimums is None else groups.minimums.data_ptr(),
        packed.data_ptr(),
    )
    return packed


def _multiply(x: Tensor, packed: _Packed, few_bits: Tensor, dtype: torch.dtype) -> Tensor:
    rows, width = x.shape
    x = x.contiguous()
    out = torch.empty(rows, packed.features, dtype=dtype)
    kernels.product(
        packed.bits,
        rows,
        packed.features,
        width,
        x.data_ptr(),
        few_bits.data_ptr(),
        out.data_ptr(),
        dtype == torch.float32,
    )
    return out


def _look_up(few_bits: Tensor, features: int, width: int, ids: Tensor) -> Tensor:
    out = torch.empty(len(ids), width, dtype=torch.bfloat16)
    ids = ids.int().contiguous()
    args = (few_bits.data_ptr(), features, width, ids.data_ptr(), len(ids), out.data_ptr())
    kernels.look_up(*args)
    return out
