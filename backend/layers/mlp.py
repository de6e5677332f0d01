"""The part of a layer that treats each token by itself."""

from torch import Tensor

from backend.config.spec import MLP
from backend.layers.compute_context import ComputeContext
from backend.layers.linear import ColumnParallelLinear, GatedLinear, RowParallelLinear
from backend.layers.loader import WeightLoader


class DenseMLP:
    """One MLP, its columns shared by the ranks, their sum taken once."""

    def __init__(self, loader: WeightLoader, mlp: MLP, context: ComputeContext) -> None:
        self._ops = context.ops
        self._activation = mlp.activation
        self._up: ColumnParallelLinear
        self._is_gated = mlp.is_gated
        if mlp.is_gated:
            self._up = GatedLinear(loader, ["gate_proj", "up_proj"], mlp.activation, context)
        else:
            self._up = ColumnParallelLinear(loader, ["up_proj"])
        self._down = RowParallelLinear(loader, "down_proj", context)

    def forward(self, x: Tensor) -> Tensor:
        """[T, hidden] -> [T, hidden], the same on every rank."""
        return self._down.forward(self._activated(x))

    def partial(self, x: Tensor) -> Tensor:
        """[T, hidden] -> what is this rank's of it, [T, hidden], to be summed; of no bias."""
        return self._down.partial(self._activated(x))

    def _activated(self, x: Tensor) -> Tensor:
        inner = self._up.forward(x)
        return inner if self._is_gated else self._ops.activate(inner, self._activation)
