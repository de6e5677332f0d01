"""Root-mean-square normalisation (Zhang and Sennrich 2019)."""

from torch import Tensor

from backend.layers.loader import WeightLoader
from backend.ops.op_table import Ops


class RMSNorm:
    """Replicated on every rank."""

    def __init__(self, loader: WeightLoader, name: str, width: int, eps: float, ops: Ops) -> None:
        self._weight = loader.take(f"{name}.weight", (width,), replicated=True)
        self._eps = eps
        self._ops = ops

    def forward(self, x: Tensor, delta: Tensor | None) -> tuple[Tensor, Tensor]:
        """[T, width] -> x + delta, and that normalised."""
        return self._ops.add_rms_norm(x, delta, self._weight, self._eps)
