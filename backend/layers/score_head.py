"""The score of a text by a model's own classifier. Float32, whole on every rank."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.config.spec import Classifier, Norm
from backend.layers.loader import WeightLoader
from backend.layers.norm import NormLayer
from backend.ops.op_table import Ops

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": torch.relu,
    "relu2": lambda x: torch.relu(x).square(),
}


class ScoreHead:
    """A linear of one output, behind what a Classifier says."""

    def __init__(self, loader: WeightLoader, head: Classifier, norm: Norm, ops: Ops) -> None:
        """norm: what kind the model's are."""

        def take(name: str, has_bias: bool) -> tuple[Tensor, Tensor | None]:
            return loader.take(f"{name}.weight"), loader.take(f"{name}.bias") if has_bias else None

        self._activate = _ACTIVATIONS[head.activation] if head.activation else None
        self._dense = take("pooler.dense", head.dense_bias) if head.activation else None
        self._norm = NormLayer(loader, "pooler.norm", norm, ops) if head.has_norm else None
        self._out = take("classifier", head.has_bias)

    def forward(self, x: Tensor) -> Tensor:
        """[n, hidden] -> [n], float32."""
        x = x.float()
        if self._dense is not None and self._activate is not None:
            x = self._activate(F.linear(x, *self._dense))
        if self._norm is not None:
            x = self._norm.forward(x)[1]
        return F.linear(x, *self._out).squeeze(1)
