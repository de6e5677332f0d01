"""How the gate of an MLP or of an expert works, as products of weights take it."""

from functools import partial

from backend.config.spec import Activation, GateClamp
from backend.linear.kernel import Gating
from backend.ops.op_table import Ops


def gating_of(activation: Activation, ops: Ops) -> Gating:
    """Return activation(gate) * up."""
    if activation == "silu":
        return Gating(ops.silu_mul)
    return Gating(partial(ops.gate_mul, activation=activation), is_fusible=False)


def clamped_gating(clamp: GateClamp, ops: Ops) -> Gating:
    """Return a gate of limits."""
    compute = partial(ops.clamped_gate_mul, clamp=clamp)
    return Gating(compute, clamp.limit, clamp.alpha, clamp.offset)
