"""Mamba-2's state space in C, and gated norms; see backend/native/ssm_scan.h and gated_norm.h."""

import torch
from torch import Tensor

from backend.native import calls, kernels
from backend.ops.addresses import address_of
from backend.ops.batch import StateBatch
from backend.ops.gated_norm import GatedNorm
from backend.ops.ssm_scan import SsmHeads
from backend.ops.state_ops import StateOps

# What the kernel has room for.
MAX_STATE_DIM = 256
# As gated_norm.h numbers them.
_ORDERS = {"behind": 0, "before": 1, "alone": 2}


class NativeSsmOps(StateOps):
    """See `Ops` for shapes. x, gates, steps and results are bf16; a state lies in panels of 16
    numbers of a head, [slots, H, P / 16, N, 16]. What the kernels are not made for is PyTorch's."""

    def ssm_scan(
        self, x: Tensor, steps: Tensor, heads: SsmHeads, state: Tensor, states: StateBatch
    ) -> Tensor:
        if heads.head_dim % 16 or heads.state_dim % 16 or heads.state_dim > MAX_STATE_DIM:
            return super().ssm_scan(x, steps, heads, state, states)
        assert x.stride(1) == steps.stride(1) == 1 and state.is_contiguous()
        num_heads = len(heads.rates)
        out = x.new_empty(len(x), num_heads, heads.head_dim)
        call = calls.SsmScan(
            x=x.data_ptr(),
            x_stride=x.stride(0),
            steps=steps.data_ptr(),
            step_stride=steps.stride(0),
            step_scale=heads.step_scale,
            least_step=heads.steps_from,
            most_step=heads.steps_to,
            rates=heads.rates.data_ptr(),
            biases=heads.biases.data_ptr(),
            skips=heads.skips.data_ptr(),
            groups=heads.groups.data_ptr(),
            state=state.data_ptr(),
            reads=states.reads.data_ptr(),
            writes=states.writes.data_ptr(),
            starts=states.starts.data_ptr(),
            chains=states.chains.data_ptr(),
            num_sequences=len(states.chains) - 1,
            num_heads=num_heads,
            head_dim=heads.head_dim,
            num_groups=heads.num_groups,
            state_dim=heads.state_dim,
            out=out.data_ptr(),
        )
        kernels.ssm_scan(call)
        return out

    def gated_norm(
        self, x: Tensor, gate: Tensor, norm: GatedNorm, squares: Tensor | None = None
    ) -> Tensor:
        tokens, num_groups, dim = x.shape
        if dim % 16:
            return super().gated_norm(x, gate, norm, squares)
        assert x.is_contiguous() and gate.stride(1) == 1 and norm.weight.is_contiguous()
        out = torch.empty_like(x)
        call = calls.GatedNorm(
            x=x.data_ptr(),
            gate=gate.data_ptr(),
            gate_stride=gate.stride(0),
            gate_scale=norm.gate_scale,
            order=_ORDERS[norm.gate],
            weight=norm.weight.data_ptr(),
            weight_stride=dim if norm.weight.ndim > 1 else 0,
            squares=address_of(squares),
            count=norm.num_averaged(dim),
            out=out.data_ptr(),
            tokens=tokens,
            num_groups=num_groups,
            dim=dim,
            eps=norm.eps,
        )
        kernels.gated_norm(call)
        return out.flatten(1)

    def gated_squares(self, x: Tensor, gate: Tensor, norm: GatedNorm) -> Tensor:
        tokens, num_groups, dim = x.shape
        if dim % 16:
            return super().gated_squares(x, gate, norm)
        assert x.is_contiguous() and gate.stride(1) == 1
        out = torch.empty(tokens, num_groups)
        call = calls.GatedSquares(
            x=x.data_ptr(),
            gate=gate.data_ptr(),
            gate_stride=gate.stride(0),
            gate_scale=norm.gate_scale,
            order=_ORDERS[norm.gate],
            out=out.data_ptr(),
            tokens=tokens,
            num_groups=num_groups,
            dim=dim,
        )
        kernels.gated_squares(call)
        return out
