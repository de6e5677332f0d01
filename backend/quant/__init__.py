"""How a rank stores its weights and multiplies by them: name -> "module:Class"."""

from importlib import import_module
from typing import Protocol

import torch
from torch import Tensor

METHODS = {
    "dense": "backend.quant.dense:DenseMethod",
    "exact": "backend.quant.exact:ExactMethod",
}


class LinearMethod(Protocol):
    """Packs a weight once, then multiplies by it in every step."""

    def pack(self, weight: Tensor) -> Tensor:
        """Return this method's form of weight [N, K]. Takes ownership of its argument."""
        ...

    def apply(self, x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        """x [M, K] -> x W^T + bias [M, N]."""
        ...


def create_method(name: str, dtype: torch.dtype, device: torch.device) -> LinearMethod:
    """Import and make one of METHODS."""
    module, _, attribute = METHODS[name].partition(":")
    method: LinearMethod = getattr(import_module(module), attribute)(dtype, device)
    return method
