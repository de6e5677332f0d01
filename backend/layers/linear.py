"""Linear layers of which each rank holds a part."""

import torch
from torch import Tensor

from backend.layers.loader import WeightLoader, WeightSlice
from backend.linear.method import LinearMethod
from backend.ops.op_table import Ops
from backend.parallel import TensorParallel


class ColumnParallelLinear:
    """Output features are shared out; several projections of one input are fused in one product.

    names: of the projections; sizes: their whole output features; parts: this rank's slices.
    """

    def __init__(
        self,
        source: WeightLoader,
        names: list[str],
        sizes: list[int],
        parts: list[slice],
        width: int,
        method: LinearMethod,
        *,
        bias: bool = False,
    ) -> None:
        pieces = list(zip(names, sizes, parts, strict=True))
        self._method = method
        self._weight = source.pack(
            method, [WeightSlice(f"{n}.weight", (size, width), rows=p) for n, size, p in pieces]
        )
        self._bias = (
            torch.cat([source.take(f"{n}.bias", (size,), rows=p) for n, size, p in pieces])
            if bias
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [T, width] -> [T, this rank's features, projection after projection]."""
        return self._method.apply(x, self._weight, self._bias)


class GatedLinear(ColumnParallelLinear):
    """Two projections of one input, of which the first gates the second (Shazeer 2020, SwiGLU)."""

    def __init__(
        self,
        source: WeightLoader,
        names: list[str],
        size: int,
        part: slice,
        width: int,
        method: LinearMethod,
        ops: Ops,
        *,
        bias: bool = False,
    ) -> None:
        super().__init__(source, names, [size] * 2, [part] * 2, width, method, bias=bias)
        self._ops = ops

    def forward(self, x: Tensor) -> Tensor:
        """x [T, width] -> [T, this rank's features of one of the two]."""
        return self._method.apply_gated(x, self._weight, self._bias, self._ops.silu_mul)


class RowParallelLinear:
    """Input features are shared out; the ranks' products are summed, then the bias is added."""

    def __init__(
        self,
        source: WeightLoader,
        name: str,
        shape: tuple[int, int],
        part: slice,
        method: LinearMethod,
        tp: TensorParallel,
        *,
        bias: bool = False,
    ) -> None:
        self._method = method
        self._tp = tp
        self._weight = source.pack(method, [WeightSlice(f"{name}.weight", shape, cols=part)])
        self._bias = source.take(f"{name}.bias", shape[:1], replicated=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x [T, this rank's features] -> [T, output], the same on every rank."""
        out = self._tp.all_reduce(self._method.apply(x, self._weight, None))
        return out if self._bias is None else out + self._bias
