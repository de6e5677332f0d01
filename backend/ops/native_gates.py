"""Gates and sums in C; see backend/native/gates.h."""

import torch
from torch import Tensor

from backend.config.spec import Activation
from backend.native import calls, kernels
from backend.ops.addresses import address_of
from backend.ops.tokenwise import Opening, TokenwiseOps

# As gates.h numbers them.
_FUNCTIONS: dict[Opening, int] = {
    "silu": 0,
    "gelu": 1,
    "gelu_tanh": 2,
    "relu": 3,
    "relu2": 4,
    "sigmoid": 5,
    "linear": 6,
}


class NativeGateOps(TokenwiseOps):
    """See `Ops` for shapes. Every tensor is bf16."""

    def gate_mul(self, gate_up: Tensor, activation: Activation) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return _gate(gate, up, activation)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        return self.gate_mul(gate_up, "silu")

    def activate(self, x: Tensor, activation: Activation) -> Tensor:
        return _gate(x, None, activation)

    def gate_by(self, gate: Tensor, x: Tensor, opening: Opening) -> Tensor:
        return _gate(gate, x, opening)

    def add(self, x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
        return _scaled_sum(x, y, scale)

    def scale(self, x: Tensor, factor: float) -> Tensor:
        return _scaled_sum(x, None, factor)


def _gate(gate: Tensor, up: Tensor | None, opening: Opening) -> Tensor:
    assert gate.stride(1) == 1 and (up is None or up.stride(1) == 1)
    out = torch.empty(gate.shape, dtype=gate.dtype)
    kernels.gate_mul(
        calls.GateMul(
            gate=gate.data_ptr(),
            gate_stride=gate.stride(0),
            up=address_of(up),
            up_stride=0 if up is None else up.stride(0),
            out=out.data_ptr(),
            tokens=len(gate),
            width=gate.shape[1],
            function=_FUNCTIONS[opening],
        )
    )
    return out


def _scaled_sum(x: Tensor, y: Tensor | None, scale: float) -> Tensor:
    x, y = x.contiguous(), None if y is None else y.contiguous()
    out = torch.empty_like(x)
    kernels.scaled_sum(
        calls.ScaledSum(
            x=x.data_ptr(),
            y=address_of(y),
            out=out.data_ptr(),
            tokens=len(x),
            width=x.shape[1],
            scale=scale,
        )
    )
    return out
