"""Linear layers of which each rank holds a part."""

from collections.abc import Sequence

import torch
from torch import Tensor

from backend.layers.compute_context import ComputeContext
from backend.layers.loader import WeightLoader, WeightSlice
from backend.placement.sharding import Part


class ColumnParallelLinear:
    """Output features are sharded; several projections of one input are fused in one GEMM."""

    def __init__(
        self,
        loader: WeightLoader,
        names: Sequence[str],
        parts: Sequence[Part],
        width: int,
        *,
        bias: bool = False,
    ) -> None:
        """names: the projections; parts: this rank's output features of each. width: the input."""
        named = list(zip(names, parts, strict=True))
        self._weight = loader.stack(
            [WeightSlice(f"{n}.weight", (part.of, width), rows=part.here) for n, part in named]
        )
        self._bias = (
            torch.cat([loader.take(f"{n}.bias", (part.of,), rows=part.here) for n, part in named])
            if bias
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [T, width] -> [T, this rank's features, projection after projection]."""
        return self._weight.apply(x, self._bias)


class GatedLinear(ColumnParallelLinear):
    """Two projections of one input, of which the first gates the second (Shazeer 2020, SwiGLU)."""

    def __init__(
        self,
        loader: WeightLoader,
        names: Sequence[str],
        part: Part,
        width: int,
        context: ComputeContext,
        *,
        bias: bool = False,
    ) -> None:
        super().__init__(loader, names, [part] * 2, width, bias=bias)
        self._ops = context.ops

    def forward(self, x: Tensor) -> Tensor:
        """x [T, width] -> [T, this rank's features of one of the two]."""
        return self._weight.apply_swiglu(x, self._bias, self._ops.silu_mul)


class RowParallelLinear:
    """Input features are sharded; the ranks' products are summed, then the bias is added."""

    def __init__(
        self,
        loader: WeightLoader,
        name: str,
        part: Part,
        width: int,
        context: ComputeContext,
        *,
        bias: bool = False,
    ) -> None:
        """part: this rank's input features. width: the output."""
        self._tp = context.tp
        self._weight = loader.pack(WeightSlice(f"{name}.weight", (width, part.of), cols=part.here))
        self._bias = loader.take(f"{name}.bias", (width,), replicated=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x [T, this rank's features] -> [T, width], the same on every rank."""
        if self._tp.size == 1:
            return self._weight.apply(x, self._bias)
        out = self._tp.all_reduce(self._weight.apply(x))
        return out if self._bias is None else out + self._bias
