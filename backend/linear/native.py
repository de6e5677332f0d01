"""Weights in the file's groups of 4 or 8 bits, or in bf16, multiplied by our own kernels in C.

Activations are bf16, sums float32; up to 32 rows a row's result does not depend on the others, and
neither above (native/README.md). Nothing else is kept of a weight, except on processors whose AMX
multiplies large batches several times as fast as vectors do: there oneDNN has a dense form of what
is in groups as well, and dense weights to itself. tests/bench/README.md has the figures.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from backend.linear.kernel import Embed, LinearKernel, SiluMul, W, WeightFootprint
from backend.linear.onednn import OneDnnKernel
from backend.native import calls, kernels
from backend.quant.quantized_weight import GROUP_SIZE, QuantizedWeight
from backend.quant.weight_format import WeightFormat

# The bits of each number, its share of scale and minimum included.
PACKED_BITS = {WeightFormat.DENSE: 16.0, WeightFormat.Q4: 5.0, WeightFormat.Q8: 8.5}
# With AMX, groups multiply up to so many rows. It is a guess: nothing was measured there.
MAX_ROWS_BESIDE_TILES = 24

# gemm.h: Epilogue, by what becomes of the sums.
BF16, FLOAT, SWIGLU = range(3)
# A gate's features and those it gates are taken 16 at a time.
LANES = 16


@dataclass(frozen=True, slots=True)
class Blocks:
    """A weight as the kernels take it; native/README.md draws it.

    gemm: the call that multiplies by it, filled in as far as it is always the same.
    """

    data: Tensor
    bits: int
    features: int
    width: int
    gemm: calls.Gemm


class _NativeKernel(LinearKernel[W, Blocks]):
    """Multiplies by blocks; a subclass says what it packs into them."""

    def takes(self, n: int, k: int) -> bool:
        return k % GROUP_SIZE == 0

    def size_bytes(self, packed: Blocks) -> int:
        return packed.data.nbytes

    def apply(self, x: Tensor, packed: Blocks, bias: Tensor | None) -> Tensor:
        out = _multiply(x, packed, BF16)
        return out if bias is None else out.add_(bias)

    def apply_swiglu(
        self, x: Tensor, packed: Blocks, bias: Tensor | None, silu_mul: SiluMul
    ) -> Tensor:
        if bias is not None or packed.features % (2 * LANES):
            return silu_mul(self.apply(x, packed, bias))
        return _multiply(x, packed, SWIGLU)

    def logits(self, x: Tensor, packed: Blocks) -> Tensor:
        return _multiply(x, packed, FLOAT)

    def argmax(self, x: Tensor, packed: Blocks) -> tuple[Tensor, Tensor]:
        return _argmax(x, packed)

    def embed(self, packed: Blocks) -> Embed | None:
        return None if packed.bits == 4 else partial(_embed, packed)


class NativeDenseKernel(_NativeKernel[Tensor]):
    """Dense weights, bf16."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        """See registry.py: only bf16 on a CPU comes here."""

    def pack(self, weight: Tensor) -> Blocks:
        return _pack(16, weight.contiguous())

    def footprint(self, k: int) -> WeightFootprint:
        return WeightFootprint(is_dense=True, packed_bits=0, embeds=True)


class NativeQuantizedKernel(_NativeKernel[QuantizedWeight]):
    """Groups of 4 or 8 bits, as they are."""

    def __init__(self, weight_format: WeightFormat) -> None:
        self._format = weight_format

    def pack(self, weight: QuantizedWeight) -> Blocks:
        return _pack(weight.bits, weight.values, weight.scales, weight.mins)

    def footprint(self, k: int) -> WeightFootprint:
        return WeightFootprint(False, PACKED_BITS[self._format], self._format is WeightFormat.Q8)


class NativeQ4Kernel(NativeQuantizedKernel):
    """Groups of 4 bits: Q4_0 and Q4_1."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(WeightFormat.Q4)


class NativeQ8Kernel(NativeQuantizedKernel):
    """Groups of 8 bits: Q8_0."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(WeightFormat.Q8)


@dataclass(frozen=True, slots=True)
class BlocksBesideTiles:
    """Groups for few rows, and the same weight dense for oneDNN's AMX."""

    dense: Tensor
    blocks: Blocks


class _BesideTilesKernel(LinearKernel[QuantizedWeight, BlocksBesideTiles]):
    """Groups multiply few rows, oneDNN by AMX the many."""

    def __init__(self, few: NativeQuantizedKernel, many: OneDnnKernel) -> None:
        self._few, self._many = few, many

    def takes(self, n: int, k: int) -> bool:
        return self._few.takes(n, k)

    def pack(self, weight: QuantizedWeight) -> BlocksBesideTiles:
        dense = self._many.pack(weight.to_dense().to(torch.bfloat16))
        return BlocksBesideTiles(dense, self._few.pack(weight))

    def footprint(self, k: int) -> WeightFootprint:
        return self._few.footprint(k)._replace(is_dense=True)

    def size_bytes(self, packed: BlocksBesideTiles) -> int:
        return self._many.size_bytes(packed.dense) + self._few.size_bytes(packed.blocks)

    def apply(self, x: Tensor, packed: BlocksBesideTiles, bias: Tensor | None) -> Tensor:
        if len(x) > MAX_ROWS_BESIDE_TILES:
            return self._many.apply(x, packed.dense, bias)
        return self._few.apply(x, packed.blocks, bias)

    def apply_swiglu(
        self, x: Tensor, packed: BlocksBesideTiles, bias: Tensor | None, silu_mul: SiluMul
    ) -> Tensor:
        if len(x) > MAX_ROWS_BESIDE_TILES:
            return self._many.apply_swiglu(x, packed.dense, bias, silu_mul)
        return self._few.apply_swiglu(x, packed.blocks, bias, silu_mul)

    def logits(self, x: Tensor, packed: BlocksBesideTiles) -> Tensor:
        if len(x) > MAX_ROWS_BESIDE_TILES:
            return self._many.logits(x, packed.dense)
        return self._few.logits(x, packed.blocks)

    def argmax(self, x: Tensor, packed: BlocksBesideTiles) -> tuple[Tensor, Tensor]:
        if len(x) > MAX_ROWS_BESIDE_TILES:
            return self._many.argmax(x, packed.dense)
        return self._few.argmax(x, packed.blocks)

    def embed(self, packed: BlocksBesideTiles) -> Embed | None:
        return self._few.embed(packed.blocks)


class Q4BesideTilesKernel(_BesideTilesKernel):
    """Groups of 4 bits beside AMX."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(NativeQ4Kernel(dtype, device), OneDnnKernel(dtype, device))


class Q8BesideTilesKernel(_BesideTilesKernel):
    """Groups of 8 bits beside AMX."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(NativeQ8Kernel(dtype, device), OneDnnKernel(dtype, device))


def _pack(
    bits: int, values: Tensor, scales: Tensor | None = None, mins: Tensor | None = None
) -> Blocks:
    features, width = values.shape
    call = calls.Pack(
        bits=bits,
        N=features,
        K=width,
        values=values.data_ptr(),
        scales=None if scales is None else scales.data_ptr(),
        mins=None if mins is None else mins.data_ptr(),
    )
    data = torch.empty(kernels.packed_size(call), dtype=torch.uint8)
    call.out = data.data_ptr()
    kernels.pack(call)
    gemm = calls.Gemm(bits=bits, N=features, K=width, packed=data.data_ptr())
    return Blocks(data, bits, features, width, gemm)


def _multiply(x: Tensor, weight: Blocks, epilogue: int) -> Tensor:
    x = x.contiguous()
    features = weight.features // 2 if epilogue == SWIGLU else weight.features
    dtype = torch.float32 if epilogue == FLOAT else torch.bfloat16
    out = torch.empty(len(x), features, dtype=dtype)
    call = weight.gemm
    call.M = len(x)
    call.x = x.data_ptr()
    call.out = out.data_ptr()
    call.epilogue = epilogue
    kernels.gemm(call)
    return out


def _argmax(x: Tensor, weight: Blocks) -> tuple[Tensor, Tensor]:
    x = x.contiguous()
    values, ids = torch.empty(len(x)), torch.empty(len(x), dtype=torch.int64)
    kernels.argmax(
        calls.Argmax(
            bits=weight.bits,
            M=len(x),
            N=weight.features,
            K=weight.width,
            x=x.data_ptr(),
            packed=weight.data.data_ptr(),
            values=values.data_ptr(),
            ids=ids.data_ptr(),
        )
    )
    return values, ids


def _embed(weight: Blocks, ids: Tensor) -> Tensor:
    out = torch.empty(len(ids), weight.width, dtype=torch.bfloat16)
    ids = ids.int().contiguous()
    kernels.embed(
        calls.Embed(
            bits=weight.bits,
            N=weight.features,
            K=weight.width,
            packed=weight.data.data_ptr(),
            ids=ids.data_ptr(),
            num_ids=len(ids),
            out=out.data_ptr(),
        )
    )
    return out
