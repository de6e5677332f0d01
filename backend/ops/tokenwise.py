"""Ops that treat each token by itself, in stock torch, for tables that have none of their own."""

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.config.spec import Activation


class TokenwiseOps:
    """See `Ops` for shapes."""

    def add_layer_norm(
        self,
        x: Tensor,
        delta: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> tuple[Tensor, Tensor]:
        if delta is not None:
            x = x + delta
        return x, F.layer_norm(x, x.shape[-1:], weight, bias, eps)

    def head_norm(self, heads: Tensor, weight: Tensor, eps: float) -> None:
        heads.copy_(F.rms_norm(heads.float(), heads.shape[-1:], weight.float(), eps))

    def gate_mul(self, gate_up: Tensor, activation: Activation) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return self.activate(gate, activation) * up

    def activate(self, x: Tensor, activation: Activation) -> Tensor:
        return activate(x, activation)


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Return activation(x), in x's dtype."""
    match activation:
        case "silu":
            return F.silu(x)
        case "gelu":
            return F.gelu(x)
        case "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        case "relu":
            return torch.relu(x)
