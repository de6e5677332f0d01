"""A gated short convolution, LFM2's mixer of most layers."""

from torch import Tensor

from backend.layers.compute_context import ComputeContext
from backend.layers.linear import ColumnParallelLinear, RowParallelLinear
from backend.layers.loader import WeightLoader
from backend.layers.state_step import StateStep


class ShortConvolution:
    """This rank's channels of out(c * conv(b * x)), where b, c and x are linears of the input."""

    def __init__(self, loader: WeightLoader, context: ComputeContext) -> None:
        self._ops = context.ops
        self._in = ColumnParallelLinear(loader, ["b_proj", "c_proj", "x_proj"])
        self._taps = read_taps(loader, "conv")
        self._bias = loader.take("conv.bias") if loader.has("conv.bias") else None
        self._out = RowParallelLinear(loader, "out_proj", context)

    def forward(self, x: Tensor, step: StateStep) -> Tensor:
        """[T, hidden] -> [T, hidden], or [n, hidden] of the tokens that are wanted."""
        b, c, x = self._in.forward(x).chunk(3, dim=-1)  # [T, channels] each
        (state,) = step.states
        bx = self._ops.gate_by(b, x, "linear")
        out = self._ops.causal_conv(bx, self._taps, self._bias, state, step.segments, None)
        if step.wanted is not None:
            out, c = out.index_select(0, step.wanted), c.index_select(0, step.wanted)
        return self._out.forward(self._ops.gate_by(c, out, "linear"))


def read_taps(loader: WeightLoader, name: str) -> Tensor:
    """Return this rank's taps of a convolution as Ops.causal_conv takes them, [taps, channels]."""
    return loader.take(f"{name}.weight").T.contiguous()
