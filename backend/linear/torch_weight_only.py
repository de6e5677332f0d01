"""Weights in few bits, multiplied by torch's weight-only kernels while a batch has few rows.

A GEMM of few rows waits for its weights, so fewer bytes of them is what counts; with more rows the
kernels, whose time grows with each row, lose against oneDNN's, and the same weights in the dtype of
the forward pass serve. Both forms are kept. tests/bench/README.md has where they cross.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from backend.linear.kernel import LinearKernel
from backend.linear.onednn import OneDnnKernel
from backend.quant.int4_groups import unpack_int4
from backend.quant.kept_weights import TORCH_INT4_FEATURES
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.rounding import BLOCK, quantize_int4

INT4_MAX_ROWS = 5
INT8_MAX_ROWS = 4


@dataclass(frozen=True, slots=True)
class BothForms:
    """A weight in both forms. packed: None where the weight-only kernel does not take it."""

    dense: Tensor
    packed: tuple[Tensor, Tensor] | None


def _multiply_int4(x: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    out: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, values, BLOCK, scales)
    return out


def _multiply_int8(x: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    out: Tensor = torch.ops.aten._weight_int8pack_mm(x, values, scales)
    return out


class _BothFormsKernel:
    """What the kernels share that keep both forms.

    _max_rows: up to how many the weight-only kernel multiplies. _multiply: that kernel.
    """

    _max_rows: int
    _multiply: Callable[[Tensor, Tensor, Tensor], Tensor]

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._onednn = OneDnnKernel(dtype, device)

    def size_bytes(self, packed: BothForms) -> int:
        return self._onednn.size_bytes(packed.dense) + sum(p.nbytes for p in packed.packed or ())

    def apply(self, x: Tensor, packed: BothForms, bias: Tensor | None) -> Tensor:
        if packed.packed is None or len(x) > self._max_rows:
            return self._onednn.apply(x, packed.dense, bias)
        out = self._multiply(x, *packed.packed)
        return out if bias is None else out.add_(bias)


class TorchInt4Kernel(_BothFormsKernel, LinearKernel[QuantizedWeight, BothForms]):
    """Q4_0 and Q4_1: the file's values and scales as they are."""

    _max_rows = INT4_MAX_ROWS
    _multiply = staticmethod(_multiply_int4)

    def pack(self, weight: QuantizedWeight) -> BothForms:
        dense = self._onednn.pack(weight.to_dense().to(torch.bfloat16))
        return BothForms(dense, _pack_int4(weight))


class TorchInt8Kernel(_BothFormsKernel, LinearKernel[Tensor, BothForms]):
    """Dense weights, rounded to 8 bits symmetrically, with one scale for each output feature."""

    _max_rows = INT8_MAX_ROWS
    _multiply = staticmethod(_multiply_int8)

    def pack(self, weight: Tensor) -> BothForms:
        scales = (weight.float().abs().amax(1) / 127).clamp_(min=1e-12).to(weight.dtype)
        values = (weight.float() / scales.float()[:, None]).round_().clamp_(-127, 127)
        dense = (values * scales.float()[:, None]).to(weight.dtype)
        return BothForms(self._onednn.pack(dense), (values.to(torch.int8), scales))


def _pack_int4(weight: QuantizedWeight) -> tuple[Tensor, Tensor] | None:
    """Return torch's layout and [K / group, N, 2] bf16 pairs: w = (value - 8) * scale + zero."""
    if len(weight.blocks) % TORCH_INT4_FEATURES:
        return None
    groups = unpack_int4(weight)
    values = torch.ops.aten._convert_weight_to_int4pack_for_cpu(groups.values.int(), 1)
    zeros = groups.mins + 8 * groups.scales
    pairs = torch.stack((groups.scales, zeros), dim=-1).transpose(0, 1)
    return values, pairs.to(torch.bfloat16).contiguous()


def weight_only_kernels_work() -> bool:
    """Private ops of torch 2.5 to 2.13: whether they are there and do what is expected of them."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 64, generator=generator)
    x = torch.randn(3, 64, generator=generator).bfloat16()
    groups = quantize_int4(weight)
    try:
        packed = _pack_int4(groups)
        assert packed is not None
        out = _multiply_int4(x, *packed).float()
        scales = torch.full((64,), 0.1, dtype=torch.bfloat16)
        values = (weight / 0.1).round().clamp(-127, 127).to(torch.int8)
        out8 = _multiply_int8(x, values, scales).float()
    except (AttributeError, RuntimeError):
        return False
    expected = x.float() @ groups.to_dense().T
    expected8 = x.float() @ (values.float() * scales.float()[:, None]).T
    bound = 0.05 * float(expected.abs().max())
    return bool((out - expected).abs().max() < bound and (out8 - expected8).abs().max() < bound)
