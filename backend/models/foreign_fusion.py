"""Modules of transformers' models that our kernels do in one go: known by what their code does.

A forward whose bytecode is that of one below computes the same, whatever the class is called.
"""

import inspect
from types import CodeType
from typing import Any

import torch
from torch import nn

from backend.config.spec import Activation
from backend.ops.op_table import Ops

_QKV = ("q_proj", "k_proj", "v_proj")


def _rms_norm(self: Any, hidden_states: Any) -> Any:
    """Llama's, and that of most others."""
    input_dtype = hidden_states.dtype
    hidden_states = hidden_states.to(torch.float32)
    variance = hidden_states.pow(2).mean(-1, keepdim=True)
    hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
    return self.weight * hidden_states.to(input_dtype)


def _gated_mlp(self: Any, x: Any) -> Any:
    down_proj = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
    return down_proj


class FusedRMSNorm(nn.Module):
    """In place of a class's own, whose weight it has."""

    def __init__(self, ops: Ops, eps: float, weight: torch.Tensor) -> None:
        super().__init__()
        self._ops = ops
        self._eps = eps
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[1, T, width] -> the same, normalised."""
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        return self._ops.add_rms_norm(rows, None, self.weight, self._eps)[1].view(x.shape)


def is_rms_norm(module: nn.Module) -> bool:
    """Whether a module is a root mean square norm as Llama has it."""
    return _does(module, _rms_norm.__code__) and isinstance(
        getattr(module, "weight", None), nn.Parameter
    )


def activation_of_gated_mlp(module: nn.Module) -> Activation | None:
    """Return what gates an MLP of the usual form, if a module is one and we have its activation."""
    if not _does(module, _gated_mlp.__code__):
        return None
    if any(
        type(getattr(module, name)) is not nn.Linear
        for name in ("gate_proj", "up_proj", "down_proj")
    ):
        return None
    act = module.act_fn
    if isinstance(act, nn.SiLU) or type(act).__name__ == "SiLUActivation":
        return "silu"
    return None


def shares_input(module: nn.Module) -> bool:
    """Whether a module multiplies one input by q_proj, k_proj and v_proj, which are alike."""
    linears = [getattr(module, name, None) for name in _QKV]
    if any(type(linear) is not nn.Linear for linear in linears):
        return False
    kinds = {(linear.in_features, linear.bias is None) for linear in linears}  # type: ignore[union-attr]
    return len(kinds) == 1


def _does(module: nn.Module, known: CodeType) -> bool:
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return (
        code is not None
        and code.co_code == known.co_code
        and code.co_names == known.co_names
        and code.co_consts[1:] == known.co_consts[1:]
    )
