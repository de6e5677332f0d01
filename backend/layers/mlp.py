"""The part of a layer that treats each token by itself."""

import math

from torch import Tensor

from backend.config.spec import MLP, GateClamp
from backend.layers.compute_context import ComputeContext
from backend.layers.gating import clamped_gating, gating_of
from backend.layers.linear import ColumnParallelLinear, GatedLinear, RowParallelLinear
from backend.layers.loader import WeightLoader
from backend.linear.kernel import Gating
from backend.ops.op_table import Ops


class DenseMLP:
    """One MLP, its columns shared by the ranks, their sum taken once."""

    def __init__(self, loader: WeightLoader, mlp: MLP, context: ComputeContext) -> None:
        self._ops = context.ops
        self._activation = mlp.activation
        self._up: ColumnParallelLinear
        self._is_gated = mlp.is_gated
        if mlp.is_gated:
            self._up = GatedLinear(loader, ["gate_proj", "up_proj"], _gating(mlp, context.ops))
        else:
            self._up = ColumnParallelLinear(loader, ["up_proj"])
        self._down = RowParallelLinear(loader, "down_proj", context)
        # silu(s g) u = s (g sigmoid(s g) u)
        self._scale = mlp.out_scale * mlp.gate_scale

    def forward(self, x: Tensor) -> Tensor:
        """[T, hidden] -> [T, hidden], the same on every rank."""
        out = self._down.forward(self._activated(x))
        return out if self._scale == 1.0 else self._ops.scale(out, self._scale)

    def partial(self, x: Tensor) -> Tensor:
        """[T, hidden] -> what is this rank's of it, [T, hidden], to be summed; of no bias."""
        return self._down.partial(self._activated(x))

    def _activated(self, x: Tensor) -> Tensor:
        inner = self._up.forward(x)
        return inner if self._is_gated else self._ops.activate(inner, self._activation)


def _gating(mlp: MLP, ops: Ops) -> Gating:
    if mlp.gate_scale == 1.0:
        return gating_of(mlp.activation, ops)
    assert mlp.activation == "silu", "no family multiplies other gates"
    return clamped_gating(GateClamp(math.inf, mlp.gate_scale), ops)
