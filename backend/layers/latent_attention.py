"""Self-attention whose keys and values are kept compressed: one row a token for all heads.

DeepSeek-V2's multi-head latent attention in its absorbed form, for prompts as for decoding: what
would expand a compressed row to a head's key multiplies the queries instead, and what would expand
it to a value multiplies what attention gives.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.spec import Attention, Latent
from backend.layers.attention import AttentionStep
from backend.layers.compute_context import ComputeContext
from backend.layers.linear import ColumnParallelLinear, RowParallelLinear
from backend.layers.loader import WeightLoader
from backend.linear.grouped import GroupedWeight
from backend.linear.method import LinearMethod, StackedWeight
from backend.ops.latent import LatentAttention as Rows
from backend.ops.latent import RowNorm
from backend.placement.sharding import Shard


class LatentAttention:
    """This rank's heads of one layer; every rank keeps all rows, the ranks' results are summed."""

    def __init__(
        self,
        config: ModelConfig,
        attention: Attention,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
    ) -> None:
        assert attention.latent and attention.scale is not None
        self._ops = context.ops
        self._latent, self._scale = attention.latent, attention.scale
        self._query_scaling = attention.query_scaling
        self._num_heads = shard.num_heads
        if self._latent.q_rank:
            self._down = ColumnParallelLinear(loader, ["q_a_proj", "kv_a_proj"])
            self._q_norm = loader.take("q_a_norm.weight")
            self._q = ColumnParallelLinear(loader, ["q_b_proj"])
        else:
            self._down = ColumnParallelLinear(loader, ["kv_a_proj"])
            self._q = ColumnParallelLinear(loader, ["q_proj"])
        self._row_norm = RowNorm(
            loader.take("kv_a_norm.weight"), self._latent.norm_eps, self._latent.is_interleaved
        )
        keys, values = _expanding(self._latent, loader)
        self._to_rows = _of_heads(keys, context.method)
        self._to_values = _of_heads(values, context.method)
        self._o = RowParallelLinear(loader, "o_proj", context)

    def forward(self, x: Tensor, step: AttentionStep) -> Tensor:
        """[T, hidden] -> [T, hidden], or [n, hidden] of the tokens that are wanted."""
        latent, plan = self._latent, step.plan
        assert isinstance(plan, Rows) and step.cache is not None
        down = self._down.forward(x)
        # [T, H * (nope + rope)] -> [T, H, nope + rope]
        queries = self._queries(x, down, step).view(len(x), self._num_heads, -1)
        plain, turning = torch.split(queries, [latent.nope_dim, latent.rope_dim], -1)
        wide = x.new_empty(len(x), self._num_heads, latent.width)
        self._to_rows.apply_by_head(plain, wide[..., : latent.kv_rank])
        rows = down[:, -latent.width :]
        self._ops.store_latent(rows, turning, wide, self._row_norm, step.rotation, step.cache, plan)
        out = plan.attend(wide, step.cache, latent.kv_rank, self._scale)
        if step.wanted is not None:
            out = out.index_select(0, step.wanted)
        values = x.new_empty(len(out), self._num_heads, latent.v_dim)
        self._to_values.apply_by_head(out, values)
        return self._o.forward(values.flatten(1))

    def _queries(self, x: Tensor, down: Tensor, step: AttentionStep) -> Tensor:
        """Return all heads' queries, [T, H * (nope + rope)]."""
        if rank := self._latent.q_rank:
            x = x.new_empty(len(x), rank)
            part, out = down[:, None, :rank], x[:, None]
            self._ops.head_norm_into(part, self._q_norm, self._latent.norm_eps, out)
        queries = self._q.forward(x)
        if not self._query_scaling:
            return queries
        assert step.query_scales is not None
        return self._ops.gate_by(step.query_scales, queries, "linear")


def _expanding(latent: Latent, loader: WeightLoader) -> tuple[Tensor, Tensor]:
    """Return what expands a row, of each head: keys transposed, [H, rank, nope], and values,
    [H, v, rank]."""
    if latent.is_split:
        return loader.take("k_b_proj.weight"), loader.take("v_b_proj.weight")
    both = loader.take("kv_b_proj.weight").view(-1, latent.nope_dim + latent.v_dim, latent.kv_rank)
    keys, values = torch.split(both, [latent.nope_dim, latent.v_dim], 1)
    return keys.transpose(1, 2), values


def _of_heads(weights: Iterable[Tensor], method: LinearMethod) -> GroupedWeight:
    """Pack a matrix a head, dense."""
    packed = [method.pack_tensor(weight.contiguous()) for weight in weights]
    return GroupedWeight([StackedWeight([weight]) for weight in packed])
