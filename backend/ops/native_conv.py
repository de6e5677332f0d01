"""The causal convolution in C; see backend/native/causal_conv.h."""

from torch import Tensor

from backend.config.spec import Activation
from backend.native import calls, kernels
from backend.ops.addresses import address_of
from backend.ops.batch import StateBatch
from backend.ops.state_ops import StateOps

# What the kernel has room for.
MAX_TAPS = 8


class NativeConvOps(StateOps):
    """See `Ops` for shapes. x and results are bf16; what the kernel does not know is PyTorch's."""

    def causal_conv(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        state: Tensor,
        states: StateBatch,
        activation: Activation | None,
    ) -> Tensor:
        taps, channels = weight.shape
        if taps > MAX_TAPS or activation not in (None, "silu"):
            return super().causal_conv(x, weight, bias, state, states, activation)
        assert x.stride(1) == 1 and state.is_contiguous() and weight.is_contiguous()
        out = x.new_empty(len(x), channels)
        call = calls.CausalConv(
            x=x.data_ptr(),
            x_stride=x.stride(0),
            weight=weight.data_ptr(),
            bias=address_of(bias),
            state=state.data_ptr(),
            reads=states.reads.data_ptr(),
            writes=states.writes.data_ptr(),
            starts=states.starts.data_ptr(),
            chains=states.chains.data_ptr(),
            num_sequences=len(states.chains) - 1,
            channels=channels,
            taps=taps,
            silu=activation == "silu",
            out=out.data_ptr(),
        )
        kernels.causal_conv(call)
        return out
