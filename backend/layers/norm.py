"""Normalisation by root mean square (Zhang and Sennrich 2019) or variance (Ba et al. 2016)."""

from torch import Tensor

from backend.config.spec import Norm
from backend.layers.loader import WeightLoader
from backend.ops.op_table import Ops


class NormLayer:
    """Replicated on every rank."""

    def __init__(self, loader: WeightLoader, name: str, norm: Norm, ops: Ops) -> None:
        self._weight = read_norm_weight(loader, name, norm)
        self._bias = loader.take(f"{name}.bias") if norm.has_bias else None
        self._norm = norm
        self._ops = ops

    def forward(self, x: Tensor, delta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[T, width] -> x + delta, and that normalised."""
        if self._norm.kind == "layer" or self._weight is None:
            return self._ops.add_layer_norm(x, delta, self._weight, self._bias, self._norm.eps)
        return self._ops.add_rms_norm(x, delta, self._weight, self._norm.eps)


def read_norm_weight(loader: WeightLoader, name: str, norm: Norm) -> Tensor | None:
    """Return what a norm multiplies by, its offset added."""
    if not norm.has_weight:
        return None
    weight = loader.take(f"{name}.weight")
    return (weight.float() + norm.offset).to(weight.dtype) if norm.offset else weight
