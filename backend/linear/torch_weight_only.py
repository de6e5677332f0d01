"""Weights in few bits, multiplied by torch's weight-only kernels while there are few rows.

A product of few rows waits for its weights, so fewer bytes of them is what counts; with more rows
the kernels, whose time grows with each row, lose against oneDNN's, and the same weights in the
arithmetic's own dtype serve. Both forms are kept.

Measured in bf16 on two cores of a Zen 5 server, torch 2.13, all linears of the default model but
the head, weights cold, ms for int4 / int8 / bf16: 1 row 3.4 / 5.9 / 8.2, 4 rows 5.4 / 7.1 / 9.4,
6 rows 6.8 / 9.1 / 6.4, 16 rows 12.4 / - / 9.1; on a Xeon with AMX 1 row 3.4 / 8.0 / 11.8, 4 rows
5.7 / 10.7 / 11.1, 8 rows 10.9 / 20.1 / 11.2.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from backend.linear.method import WeightFootprint
from backend.linear.onednn import DenseMethod
from backend.quant.groups import GROUP_SIZE, Groups, quantize
from backend.quant.stored import StoredWeight, round_to_groups

INT4_MAX_ROWS = 5
INT8_MAX_ROWS = 4


@dataclass(frozen=True, slots=True)
class _Packed:
    """A weight in both forms. few_bits: None where the kernel does not take it."""

    dense: Tensor
    few_bits: tuple[Tensor, Tensor] | None


class _FewRowsMethod(DenseMethod):
    max_rows: int
    multiply: Callable[[Tensor, Tensor, Tensor], Tensor]

    def apply(self, x: Tensor, packed: _Packed, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        if packed.few_bits is None or len(x) > self.max_rows:
            return super().apply(x, packed.dense, bias)
        out = type(self).multiply(x, *packed.few_bits)
        return out if bias is None else out.add_(bias)

    def size_bytes(self, packed: _Packed) -> int:  # type: ignore[override]
        few_bits = packed.few_bits or ()
        return super().size_bytes(packed.dense) + sum(part.nbytes for part in few_bits)


class GroupedMethod(_FewRowsMethod):
    """The file's own 4-bit groups, as they are; what the file holds otherwise stays dense."""

    max_rows = INT4_MAX_ROWS

    @staticmethod
    def multiply(x: Tensor, values: Tensor, scales: Tensor) -> Tensor:
        out: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, values, GROUP_SIZE, scales)
        return out

    def pack(self, stored: StoredWeight) -> _Packed:  # type: ignore[override]
        return self._pack_both(stored.read(), stored.read_groups())

    def kept(self, group_bits: int | None, width: int) -> WeightFootprint:
        return WeightFootprint(is_dense=True, few_bits=5 if group_bits == 4 else 0)

    def _pack_both(self, weight: Tensor, groups: Groups | None) -> _Packed:
        return _Packed(self.pack_dense(weight), None if groups is None else _pack_int4(groups))


class Int4Method(GroupedMethod):
    """Every weight rounded to 4-bit groups, unless the file holds it so already."""

    def pack(self, stored: StoredWeight) -> _Packed:  # type: ignore[override]
        groups = round_to_groups(stored, 4)
        weight = stored.read() if groups is None else groups.to_dense().to(torch.bfloat16)
        return self._pack_both(weight, groups)

    def kept(self, group_bits: int | None, width: int) -> WeightFootprint:
        return WeightFootprint(is_dense=True, few_bits=0 if width % GROUP_SIZE else 5)


class Int8Method(_FewRowsMethod):
    """Every weight rounded to 8 bits, symmetrically, one scale for each output feature."""

    max_rows = INT8_MAX_ROWS

    @staticmethod
    def multiply(x: Tensor, values: Tensor, scales: Tensor) -> Tensor:
        out: Tensor = torch.ops.aten._weight_int8pack_mm(x, values, scales)
        return out

    def pack(self, stored: StoredWeight) -> _Packed:  # type: ignore[override]
        weight = stored.read()
        scales = (weight.float().abs().amax(1) / 127).clamp_(min=1e-12).to(weight.dtype)
        values = (weight.float() / scales.float()[:, None]).round_().clamp_(-127, 127)
        dense = (values * scales.float()[:, None]).to(weight.dtype)
        return _Packed(self.pack_dense(dense), (values.to(torch.int8), scales))

    def kept(self, group_bits: int | None, width: int) -> WeightFootprint:
        return WeightFootprint(is_dense=True, few_bits=8)


def _pack_int4(groups: Groups) -> tuple[Tensor, Tensor] | None:
    """Return torch's layout and [K / group, N, 2] bf16 pairs: w = (value - 8) * scale + zero."""
    if groups.minimums is None or len(groups.values) % 16:
        return None
    values = torch.ops.aten._convert_weight_to_int4pack_for_cpu(groups.values.int(), 1)
    zeros = groups.minimums + 8 * groups.scales
    pairs = torch.stack((groups.scales, zeros), dim=-1).transpose(0, 1)
    return values, pairs.to(torch.bfloat16).contiguous()


def few_bit_kernels_work() -> bool:
    """Private ops of torch 2.5 to 2.13: whether they are there and do what is expected of them."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 64, generator=generator)
    x = torch.randn(3, 64, generator=generator).bfloat16()
    groups = quantize(weight)
    try:
        packed = _pack_int4(groups)
        assert packed is not None
        out = GroupedMethod.multiply(x, *packed).float()
        scales = torch.full((64,), 0.1, dtype=torch.bfloat16)
        values = (weight / 0.1).round().clamp(-127, 127).to(torch.int8)
        out8 = Int8Method.multiply(x, values, scales).float()
    except (AttributeError, RuntimeError):
        return False
    expected = x.float() @ groups.to_dense().T
    expected8 = x.float() @ (values.float() * scales.float()[:, None]).T
    bound = 0.05 * float(expected.abs().max())
    return bool((out - expected).abs().max() < bound and (out8 - expected8).abs().max() < bound)
