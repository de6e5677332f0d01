"""Mamba-2 (Dao and Gu 2024): a state space, with a state for each head."""

import torch
from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.spec import Mamba2
from backend.layers.compute_context import ComputeContext
from backend.layers.linear import ColumnParallelLinear, RowParallelLinear
from backend.layers.loader import WeightLoader
from backend.layers.short_conv import read_taps
from backend.layers.state_step import StateStep
from backend.ops.gated_norm import Gate, GatedNorm
from backend.ops.ssm_scan import SsmHeads
from backend.placement.sharding import Shard

_CONVOLVED = ("x", "b", "c")


class Mamba2Mixer:
    """This rank's heads of one layer, and the groups that they have; the ranks' results are
    summed. Where ranks share a group, so are the squares of its norm."""

    def __init__(
        self,
        config: ModelConfig,
        mamba: Mamba2,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
    ) -> None:
        self._ops, self._tp = context.ops, context.tp
        names = [f"{part}_proj" for part in ("gate", *_CONVOLVED, "step")]
        sizes = [loader.num_rows(f"{name}.weight") for name in names]
        self._parts = [sizes[0], sum(sizes[1:4]), sizes[4]]
        self._in = ColumnParallelLinear(loader, names)
        self._taps = _taps(mamba, loader)
        self._conv_bias = (
            torch.cat([loader.take(f"{part}_conv.bias") for part in _CONVOLVED])
            if mamba.has_conv_bias
            else None
        )
        self._heads = _heads(mamba, loader, shard, context)
        groups, heads = shard.mamba_heads(mamba)
        # Of groups with a norm a rank has whole ones, or a part of the only one.
        self._num_groups = 1 if mamba.norm == "none" else len(range(groups.start, groups.stop))
        ones = torch.ones(sizes[0], device=context.device)
        self._norm = _norm(config, mamba, loader, self._num_groups, ones)
        is_cut = len(range(heads.start, heads.stop)) < self._num_groups * mamba.heads_per_group
        self._shares_group = mamba.norm != "none" and is_cut
        self._out = RowParallelLinear(loader, "out_proj", context)

    def forward(self, x: Tensor, step: StateStep) -> Tensor:
        """[T, hidden] -> [T, hidden], or [n, hidden] of the tokens that are wanted."""
        conv_state, state = step.states
        gate, x, steps = torch.split(self._in.forward(x), self._parts, dim=1)
        x = self._ops.causal_conv(x, self._taps, self._conv_bias, conv_state, step.segments, "silu")
        out = self._ops.ssm_scan(x, steps, self._heads, state, step.segments)
        if step.wanted is not None:
            out, gate = out.index_select(0, step.wanted), gate.index_select(0, step.wanted)
        out = out.view(len(out), self._num_groups, gate.shape[1] // self._num_groups)
        squares = None
        if self._shares_group:
            squares = self._tp.all_reduce(self._ops.gated_squares(out, gate, self._norm))
        return self._out.forward(self._ops.gated_norm(out, gate, self._norm, squares))


def _taps(mamba: Mamba2, loader: WeightLoader) -> Tensor:
    """Return the taps of x, B and C, [taps, channels], with what multiplies these."""
    scales = (mamba.scales.x, mamba.scales.b, mamba.scales.c)
    return torch.cat(
        [
            read_taps(loader, f"{part}_conv") * scale
            for part, scale in zip(_CONVOLVED, scales, strict=True)
        ],
        dim=1,
    )


def _heads(mamba: Mamba2, loader: WeightLoader, shard: Shard, context: ComputeContext) -> SsmHeads:
    groups, heads = shard.mamba_heads(mamba)
    of_heads = torch.arange(heads.start, heads.stop, dtype=torch.int32) // mamba.heads_per_group
    rates = loader.take("rates.weight")
    return SsmHeads(
        len(range(groups.start, groups.stop)),
        mamba.head_dim,
        mamba.state_dim,
        (of_heads - groups.start).to(context.device),
        -rates.exp() if mamba.has_log_rates else rates,
        loader.take("steps.bias"),
        loader.take("skips.weight"),
        mamba.steps_from,
        mamba.steps_to,
        mamba.scales.step,
    )


def _norm(
    config: ModelConfig, mamba: Mamba2, loader: WeightLoader, num_groups: int, ones: Tensor
) -> GatedNorm:
    """Return what gates the result, times what multiplies the layer's. ones: as many as x has."""
    scales, eps = mamba.scales, config.spec.norm.eps
    if mamba.norm == "none":
        return GatedNorm(ones.view(num_groups, -1) * scales.out, eps, "alone", scales.gate)
    weight = loader.take("norm.weight").view(num_groups, -1) * scales.out
    order: Gate = "before" if mamba.norm == "behind_gate" else "behind"
    return GatedNorm(weight, eps, order, scales.gate, mamba.heads_per_group * mamba.head_dim)
