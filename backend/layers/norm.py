"""Root-mean-square normalisation (Zhang and Sennrich 2019)."""

from torch import Tensor

from backend.layers.source import WeightSource
from backend.ops import Ops


class RMSNorm:
    """Replicated on every rank."""

    def __init__(self, source: WeightSource, name: str, width: int, eps: float, ops: Ops) -> None:
        self._weight = source.take(f"{name}.weight", (width,), replicated=True)
        self._eps = eps
        self._ops = ops

    def forward(self, x: Tensor) -> Tensor:
        """[T, width] -> [T, width]."""
        return self._ops.rms_norm(x, self._weight, self._eps)
