"""A gated delta net (Yang et al. 2025): attention of linear cost, with a state for each head."""

import torch
from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.spec import DeltaNet
from backend.layers.compute_context import ComputeContext
from backend.layers.linear import ColumnParallelLinear, RowParallelLinear
from backend.layers.loader import WeightLoader
from backend.layers.short_conv import read_taps
from backend.layers.state_step import StateStep
from backend.ops.delta_rule import DeltaHeads
from backend.ops.gated_norm import GatedNorm
from backend.placement.sharding import Shard

_CONVOLVED = ("q", "k", "v")


class GatedDeltaNet:
    """This rank's value heads of one layer, and the key heads that they have; the ranks' results
    are summed."""

    def __init__(
        self,
        config: ModelConfig,
        delta: DeltaNet,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
    ) -> None:
        self._ops = context.ops
        names = [f"{part}_proj" for part in (*_CONVOLVED, "z", "b", "a")]
        sizes = [loader.num_rows(f"{name}.weight") for name in names]
        self._parts = [sum(sizes[:3]), *sizes[3:]]
        self._in = ColumnParallelLinear(loader, names)
        self._taps = torch.cat([read_taps(loader, f"{part}_conv") for part in _CONVOLVED], dim=1)
        rates = loader.take("rates.weight")
        self._heads = DeltaHeads(
            sizes[0] // delta.key_dim,
            delta.key_dim,
            delta.value_dim,
            key_heads(delta, shard).to(context.device),
            -rates.exp() if delta.has_log_rates else rates,
            loader.take("dt.bias"),
            delta.key_eps,
        )
        self._norm = GatedNorm(loader.take("norm.weight"), config.spec.norm.eps)
        self._out = RowParallelLinear(loader, "out_proj", context)

    def forward(self, x: Tensor, step: StateStep) -> Tensor:
        """[T, hidden] -> [T, hidden], or [n, hidden] of the tokens that are wanted."""
        conv_state, state = step.states
        qkv, z, b, a = torch.split(self._in.forward(x), self._parts, dim=1)
        qkv = self._ops.causal_conv(qkv, self._taps, None, conv_state, step.segments, "silu")
        out = self._ops.delta_rule(qkv, a, b, self._heads, state, step.segments)
        if step.wanted is not None:
            out, z = out.index_select(0, step.wanted), z.index_select(0, step.wanted)
        return self._out.forward(self._ops.gated_norm(out, z, self._norm))


def key_heads(delta: DeltaNet, shard: Shard) -> Tensor:
    """Return which of this rank's key heads each of its value heads has, [Hv] int32."""
    keys, values = shard.delta_heads(delta)
    heads = torch.arange(values.start, values.stop, dtype=torch.int32)
    found: Tensor = (
        heads % delta.num_key_heads if delta.is_interleaved else heads // delta.values_per_key
    )
    return found.sub_(keys.start)
