"""Linear layers of which each rank holds a part."""

from collections.abc import Sequence

import torch
from torch import Tensor

from backend.layers.compute_context import ComputeContext
from backend.layers.loader import WeightLoader
from backend.linear.kernel import Gating


class ColumnParallelLinear:
    """Output features are sharded; several projections of one input are fused in one GEMM."""

    def __init__(self, loader: WeightLoader, names: Sequence[str]) -> None:
        """names: the projections. They have biases if the model has them."""
        self._weight = loader.stack([f"{name}.weight" for name in names])
        self._bias = (
            torch.cat([loader.take(f"{name}.bias") for name in names])
            if loader.has(f"{names[0]}.bias")
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [T, width] -> [T, this rank's features, projection after projection]."""
        return self._weight.apply(x, self._bias)

    def with_room(self, x: Tensor, room: int) -> Tensor:
        """The same, with so many numbers of a token behind its features, which are not written."""
        num_features = self._weight.num_features
        out = x.new_empty(len(x), num_features + room)
        self._weight.apply_into(x, self._bias, out[:, :num_features])
        return out


class GatedLinear(ColumnParallelLinear):
    """Two projections of one input, of which the first gates the second (Shazeer 2020, GLU)."""

    def __init__(self, loader: WeightLoader, names: Sequence[str], gating: Gating) -> None:
        super().__init__(loader, names)
        self._gating = gating

    def forward(self, x: Tensor) -> Tensor:
        """x [T, width] -> [T, this rank's features of one of the two]."""
        return self._weight.apply_gated(x, self._bias, self._gating)


class RowParallelLinear:
    """Input features are sharded; the ranks' products are summed, then the bias is added."""

    def __init__(self, loader: WeightLoader, name: str, context: ComputeContext) -> None:
        self._tp = context.tp
        self._weight = loader.pack(f"{name}.weight")
        self._bias = loader.take(f"{name}.bias") if loader.has(f"{name}.bias") else None

    def forward(self, x: Tensor) -> Tensor:
        """x [T, this rank's features] -> [T, width], the same on every rank."""
        if self._tp.size == 1:
            return self._weight.apply(x, self._bias)
        out = self._tp.all_reduce(self.partial(x))
        return out if self._bias is None else out + self._bias

    def partial(self, x: Tensor) -> Tensor:
        """x [T, this rank's features] -> the product alone, [T, width], before ranks are summed."""
        return self._weight.apply(x)
