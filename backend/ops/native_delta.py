"""The delta rule in C; see backend/native/delta_rule.h."""

from torch import Tensor

from backend.native import calls, kernels
from backend.ops.batch import StateBatch
from backend.ops.delta_rule import DeltaHeads
from backend.ops.state_ops import StateOps

# What the kernel has room for.
MAX_KEY_DIM = 256


class NativeDeltaOps(StateOps):
    """See `Ops` for shapes. x, gates and results are bf16; a state lies in panels of 16 columns,
    [slots, Hv, Dv / 16, Dk, 16]. Heads that the kernels are not made for are PyTorch's."""

    def delta_rule(
        self,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        heads: DeltaHeads,
        state: Tensor,
        states: StateBatch,
    ) -> Tensor:
        if not _takes(heads.key_dim, heads.value_dim):
            return super().delta_rule(x, a, b, heads, state, states)
        assert a.stride() == b.stride() and x.stride(1) == a.stride(1) == 1
        num_value_heads = state.shape[1]
        out = x.new_empty(len(x), num_value_heads, heads.value_dim)
        call = calls.DeltaRule(
            x=x.data_ptr(),
            x_stride=x.stride(0),
            a=a.data_ptr(),
            b=b.data_ptr(),
            gate_stride=a.stride(0),
            rates=heads.rates.data_ptr(),
            biases=heads.biases.data_ptr(),
            key_heads=heads.key_heads.data_ptr(),
            state=state.data_ptr(),
            reads=states.reads.data_ptr(),
            writes=states.writes.data_ptr(),
            starts=states.starts.data_ptr(),
            chains=states.chains.data_ptr(),
            num_sequences=len(states.chains) - 1,
            num_key_heads=heads.num_key_heads,
            num_value_heads=num_value_heads,
            key_dim=heads.key_dim,
            value_dim=heads.value_dim,
            eps=heads.eps,
            out=out.data_ptr(),
        )
        kernels.delta_rule(call)
        return out


def _takes(key_dim: int, value_dim: int) -> bool:
    return key_dim % 16 == 0 and key_dim <= MAX_KEY_DIM and value_dim % 16 == 0
