"""Gates of MLPs: activation(gate) * up, one program a piece of a row, in float32."""

import triton
import triton.language as tl
from torch import Tensor

from backend.config.spec import Activation, GateClamp

PIECE = 1024


def gate_mul(gate_up: Tensor, activation: Activation) -> Tensor:
    """See `Ops.gate_mul`. gate_up: [T, 2 I], whose tokens may lie apart -> [T, I]."""
    return _launch(gate_up, activation, None)


def clamped_gate_mul(gate_up: Tensor, clamp: GateClamp) -> Tensor:
    """See `Ops.clamped_gate_mul`."""
    return _launch(gate_up, "clamped", clamp)


def _launch(gate_up: Tensor, activation: str, clamp: GateClamp | None) -> Tensor:
    tokens, width = len(gate_up), gate_up.shape[1] // 2
    out = gate_up.new_empty(tokens, width)
    if out.numel():
        _gate_mul[(tokens, triton.cdiv(width, PIECE))](
            gate_up,
            out,
            gate_up.stride(0),
            width,
            0.0 if clamp is None else clamp.limit,
            0.0 if clamp is None else clamp.alpha,
            0.0 if clamp is None else clamp.offset,
            ACTIVATION=activation,
            BLOCK=min(PIECE, triton.next_power_of_2(width)),
        )
    return out


@triton.jit
def _gate_mul(
    gate_up,
    out,
    token_stride,
    width,
    limit,
    alpha,
    offset,
    ACTIVATION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = places < width
    row = gate_up + token * token_stride
    gate = tl.load(row + places, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(row + width + places, mask=inside, other=0.0).to(tl.float32)
    if ACTIVATION == "silu":
        result = gate * tl.sigmoid(gate) * up
    elif ACTIVATION == "gelu":
        result = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476)) * up
    elif ACTIVATION == "gelu_tanh":
        # tanh(z) is 2 sigmoid(2 z) - 1, so half of 1 + tanh(z) is sigmoid(2 z).
        z = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        result = gate * tl.sigmoid(2.0 * z) * up
    elif ACTIVATION == "relu2":
        result = tl.maximum(gate, 0.0) * tl.maximum(gate, 0.0) * up
    elif ACTIVATION == "relu":
        result = tl.maximum(gate, 0.0) * up
    else:
        gate = tl.minimum(gate, limit)
        up = tl.minimum(tl.maximum(up, -limit), limit)
        result = gate * tl.sigmoid(alpha * gate) * (up + offset)
    tl.store(out + token * width + places, result.to(out.dtype.element_ty), mask=inside)
