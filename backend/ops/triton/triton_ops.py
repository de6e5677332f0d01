"""The ops in Triton, for GPUs; on a CPU in Triton's interpreter, for tests.

What has no kernel here is PyTorch's. A step's plan stays on the device: no op waits for it.
"""

import torch
from torch import Tensor

from backend.config.spec import Activation, GateClamp
from backend.ops.batch import FULL, AttentionSpec, Batch, Rotation, StateBatch
from backend.ops.cpu import CpuOps
from backend.ops.delta_rule import DeltaHeads
from backend.ops.gated_norm import GatedNorm
from backend.ops.ssm_scan import SsmHeads
from backend.ops.tokenwise import Opening
from backend.ops.triton import convolution, gates, norms, rotary
from backend.ops.triton import states as state_kernels
from backend.ops.triton.attended_keys import PlannedAttention
from backend.ops.triton.attention import attention, plan_attention
from backend.ops.triton.encoder_decoder import TritonEncoderDecoderAttention
from backend.ops.triton.latent import TritonLatentAttention


class TritonOps(CpuOps):
    """See `Ops` for shapes."""

    name = "Triton's kernels"
    reads_8_bits = True
    reads_fp8 = True
    hides_unwritten = True
    is_capturable = True
    captures_states = True

    def add_rms_norm(
        self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        return norms.add_rms_norm(x, delta, weight, eps)

    def head_norm(self, heads: Tensor, weight: Tensor | None, eps: float) -> None:
        norms.head_norm(heads, weight, eps)

    def gate_mul(self, gate_up: Tensor, activation: Activation) -> Tensor:
        return gates.gate_mul(gate_up, activation)

    def gate_by(self, gate: Tensor, x: Tensor, opening: Opening) -> Tensor:
        if opening == "sigmoid" or opening == "linear":
            return super().gate_by(gate, x, opening)
        return gates.gate_mul(torch.cat((gate, x), 1), opening)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        return gates.gate_mul(gate_up, "silu")

    def clamped_gate_mul(self, gate_up: Tensor, clamp: GateClamp) -> Tensor:
        return gates.clamped_gate_mul(gate_up, clamp)

    def gated_norm(
        self, x: Tensor, gate: Tensor, norm: GatedNorm, squares: Tensor | None = None
    ) -> Tensor:
        if squares is None and not norm.width:
            return norms.gated_norm(x, gate, norm)
        return super().gated_norm(x, gate, norm, squares)

    def causal_conv(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        state: Tensor,
        states: StateBatch,
        activation: Activation | None,
    ) -> Tensor:
        if activation not in (None, "silu"):
            return super().causal_conv(x, weight, bias, state, states, activation)
        return convolution.causal_conv(x, weight, bias, state, states, activation)

    def delta_rule(
        self,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        heads: DeltaHeads,
        state: Tensor,
        states: StateBatch,
    ) -> Tensor:
        return state_kernels.delta_rule(x, a, b, heads, state, states)

    def ssm_scan(
        self, x: Tensor, steps: Tensor, heads: SsmHeads, state: Tensor, states: StateBatch
    ) -> Tensor:
        return state_kernels.ssm_scan(x, steps, heads, state, states)

    def plan_attention(  # type: ignore[override]
        self, batch: Batch, cache: Tensor, num_heads: int, spec: AttentionSpec = FULL
    ) -> PlannedAttention:
        return plan_attention(batch, num_heads, cache.shape[2], spec)

    def plan_latent(
        self, batch: Batch, cache: Tensor, num_heads: int, value_dim: int
    ) -> TritonLatentAttention:
        return TritonLatentAttention(batch, cache)

    def plan_encoder_decoder(
        self, batch: Batch, cache: Tensor, num_heads: int, spec: AttentionSpec = FULL
    ) -> TritonEncoderDecoderAttention:
        return TritonEncoderDecoderAttention(batch, cache, num_heads, spec)

    def rotate(self, heads: Tensor, rotation: Rotation) -> None:
        rotary.rotate(heads, rotation)

    def rotate_store(  # type: ignore[override]
        self, qkv: Tensor, rotation: Rotation, cache: Tensor, plan: PlannedAttention
    ) -> None:
        rotary.rotate_store(qkv, rotation, cache, plan.slots)

    def attention(  # type: ignore[override]
        self, q: Tensor, cache: Tensor, plan: PlannedAttention, sinks: Tensor | None = None
    ) -> Tensor:
        return attention(q, cache, plan, sinks)
