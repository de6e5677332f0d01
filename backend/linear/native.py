"""Weights in the file's own blocks, or in bf16, multiplied by our own kernels in C.

Rows of activations are bf16; the kernels quantise them as the setting says. A row's result is the
same in any batch (native/README.md), and nothing is kept of a weight but its packed form.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.linear.kernel import Gating, GroupedProduct, LinearKernel
from backend.native import calls, kernels
from backend.native.level import Activations
from backend.ops.addresses import address_of
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat

# gemm.h: what a row of activations is multiplied as.
_ACTIVATIONS = {"int8": 0, "int16": 1, "bf16": 2, "mixed": 3}
# gemm.h: Epilogue, by what becomes of the sums.
BF16, FLOAT, SWIGLU = range(3)
# Widths are multiples of it: dense weights and their rows of activations are filled up with zeros.
GROUP = 32
# A gate's features and those it gates are taken 16 at a time.
LANES = 16


@dataclass(frozen=True, slots=True)
class PackedBlocks:
    """A weight as the kernels take it; native/README.md draws it.

    missing: columns that rows of activations are filled up with. gemm: the call that multiplies by
    it, filled in as far as it is always the same.
    """

    data: Tensor
    num_features: int
    missing: int
    gemm: calls.Gemm


class NativeKernel(LinearKernel[Tensor | QuantizedWeight, PackedBlocks]):
    """Multiplies by weights of one format."""

    embeds = True

    def __init__(self, weight_format: WeightFormat, activations: Activations) -> None:
        """weight_format: DENSE, whose weights come as bf16, or one of blocks."""
        self._format = weight_format
        self._number = int(weight_format.ggml_type)
        self._activations = _ACTIVATIONS[activations]

    def pack(self, weight: Tensor | QuantizedWeight) -> PackedBlocks:
        n, k = weight.shape
        call = self._pack_call(n, k)
        if isinstance(weight, QuantizedWeight):
            call.blocks = weight.blocks.ctypes.data
        else:
            weight = _fill_up(weight, -k % GROUP)
            call.blocks = weight.data_ptr()
        data = torch.empty(kernels.packed_size(call), dtype=torch.uint8)
        call.out = data.data_ptr()
        kernels.pack(call)
        gemm = calls.Gemm(
            format=self._number,
            activations=self._activations,
            N=n,
            K=call.K,
            x_stride=call.K,
            packed=data.data_ptr(),
        )
        return PackedBlocks(data, n, call.K - k, gemm)

    def size_bytes(self, packed: PackedBlocks) -> int:
        return packed.data.nbytes

    def apply(self, x: Tensor, packed: PackedBlocks, bias: Tensor | None) -> Tensor:
        out = torch.empty(x.shape[0], packed.num_features, dtype=torch.bfloat16)
        self.apply_into(x, packed, bias, out)
        return out

    def apply_into(self, x: Tensor, packed: PackedBlocks, bias: Tensor | None, out: Tensor) -> None:
        _multiply(x, packed, bias, out, BF16)

    def apply_gated(
        self, x: Tensor, packed: PackedBlocks, bias: Tensor | None, gating: Gating
    ) -> Tensor:
        if packed.num_features % (2 * LANES) or not gating.is_fusible:
            return gating.compute(self.apply(x, packed, bias))
        packed.gemm.limit, packed.gemm.alpha = gating.limit, gating.alpha
        packed.gemm.offset = gating.offset
        out = torch.empty(x.shape[0], packed.num_features // 2, dtype=torch.bfloat16)
        _multiply(x, packed, bias, out, SWIGLU)
        return out

    def take_columns(self, x: Tensor, order: Tensor, ends: Tensor | None = None) -> Tensor:
        x = x.contiguous()
        out = torch.empty(len(x), order.shape[-1], dtype=torch.bfloat16)
        kernels.take_columns(
            calls.TakeColumns(
                x=x.data_ptr(),
                order=order.data_ptr(),
                ends=address_of(ends),
                groups=1 if ends is None else len(ends),
                tokens=len(x),
                width=x.shape[1],
                count=order.shape[-1],
                out=out.data_ptr(),
            )
        )
        return out

    def logits(self, x: Tensor, packed: PackedBlocks) -> Tensor:
        out = torch.empty(len(x), packed.num_features)
        _multiply(x, packed, None, out, FLOAT)
        return out

    def argmax(self, x: Tensor, packed: PackedBlocks) -> tuple[Tensor, Tensor]:
        x = _fill_up(x, packed.missing)
        values, ids = torch.empty(len(x)), torch.empty(len(x), dtype=torch.int64)
        kernels.argmax(
            calls.Argmax(
                format=self._number,
                activations=self._activations,
                M=len(x),
                N=packed.num_features,
                K=packed.gemm.K,
                x=x.data_ptr(),
                packed=packed.data.data_ptr(),
                values=values.data_ptr(),
                ids=ids.data_ptr(),
            )
        )
        return values, ids

    def embed(self, packed: PackedBlocks, ids: Tensor) -> Tensor:
        """See LinearKernel. Raises IndexError for an id that has no row."""
        out = torch.empty(len(ids), packed.gemm.K, dtype=torch.bfloat16)
        ids = ids.int().contiguous()
        kernels.embed(
            calls.Embed(
                format=self._number,
                N=packed.num_features,
                K=packed.gemm.K,
                packed=packed.data.data_ptr(),
                ids=ids.data_ptr(),
                num_ids=len(ids),
                out=out.data_ptr(),
            )
        )
        return out[:, : packed.gemm.K - packed.missing].contiguous()

    def grouped(
        self, weights: Sequence[PackedBlocks], biases: Sequence[Tensor] | None = None
    ) -> "NativeGroups":
        return NativeGroups(self, weights, biases)

    def _pack_call(self, n: int, k: int) -> calls.Pack:
        return calls.Pack(format=self._number, N=n, K=k + -k % GROUP)


class NativeGroups(GroupedProduct[PackedBlocks]):
    """All groups in one call: threads share out the panels of all weights."""

    def __init__(
        self,
        kernel: NativeKernel,
        weights: Sequence[PackedBlocks],
        biases: Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__(kernel, weights, biases)
        first = weights[0]
        self._num_features, self._missing = first.num_features, first.missing
        self._addresses = torch.tensor([weight.data.data_ptr() for weight in weights])
        self._bias_addresses = torch.tensor([bias.data_ptr() for bias in biases or ()])
        self._call = calls.GroupedGemm(
            format=first.gemm.format,
            activations=first.gemm.activations,
            groups=len(weights),
            N=first.gemm.N,
            K=first.gemm.K,
            packed=self._addresses.data_ptr(),
            biases=self._bias_addresses.data_ptr() if biases else None,
        )

    def apply(self, x: Tensor, ends: Tensor) -> Tensor:
        return self._multiply(x, ends, self._num_features, BF16)

    def apply_gated(self, x: Tensor, ends: Tensor, gating: Gating) -> Tensor:
        if self._num_features % (2 * LANES) or not gating.is_fusible:
            return gating.compute(self.apply(x, ends))
        self._call.limit, self._call.alpha = gating.limit, gating.alpha
        self._call.offset = gating.offset
        return self._multiply(x, ends, self._num_features // 2, SWIGLU)

    def apply_by_head(self, x: Tensor, out: Tensor) -> None:
        if self._missing:
            return super().apply_by_head(x, out)
        assert x.stride(2) == out.stride(2) == 1
        first = self._call
        kernels.head_gemm(
            calls.HeadGemm(
                format=first.format,
                activations=first.activations,
                tokens=len(x),
                num_heads=first.groups,
                N=first.N,
                K=first.K,
                x=x.data_ptr(),
                x_stride=x.stride(0),
                x_step=x.stride(1),
                packed=first.packed,
                out=out.data_ptr(),
                out_stride=out.stride(0),
                out_step=out.stride(1),
            )
        )

    def _multiply(self, x: Tensor, ends: Tensor, width: int, epilogue: int) -> Tensor:
        x = _fill_up(x, self._missing)
        out = torch.empty(len(x), width, dtype=torch.bfloat16)
        call = self._call
        call.x = x.data_ptr()
        call.ends = ends.data_ptr()
        call.out = out.data_ptr()
        call.out_stride = width
        call.epilogue = epilogue
        kernels.grouped_gemm(call)
        return out


def _multiply(
    x: Tensor, packed: PackedBlocks, bias: Tensor | None, out: Tensor, epilogue: int
) -> None:
    x = _fill_up(x, packed.missing)
    call = packed.gemm
    call.M = x.shape[0]
    call.x = x.data_ptr()
    call.bias = address_of(bias)
    call.out = out.data_ptr()
    call.out_stride = out.stride(0)
    call.epilogue = epilogue
    kernels.gemm(call)


def _fill_up(rows: Tensor, missing: int) -> Tensor:
    """Return rows of bf16, contiguous, with so many columns of zeros more."""
    return F.pad(rows, (0, missing)) if missing else rows.contiguous()
