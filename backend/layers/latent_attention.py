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
from backend.layers.attention import AttentionStep, query_scale
from backend.layers.compute_context import ComputeContext
from backend.layers.linear import ColumnParallelLinear, RowParallelLinear
from backend.layers.loader import WeightLoader
from backend.linear.grouped import GroupedWeight
from backend.linear.method import LinearMethod, StackedWeight
from backend.ops.latent import LatentAttention as Rows
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
        self._kv_norm = loader.take("kv_a_norm.weight")
        keys, values = _expanding(self._latent, loader)
        self._to_rows = _of_heads(keys, context.method)
        self._to_values = _of_heads(values, context.method)
        self._o = RowParallelLinear(loader, "o_proj", context)

    def forward(self, x: Tensor, step: AttentionStep) -> Tensor:
        """[T, hidden] -> [T, hidden], or [n, hidden] of the tokens that are wanted."""
        latent, plan = self._latent, step.plan
        assert isinstance(plan, Rows) and step.cache is not None
        down = self._down.forward(x)
        kv, turning = torch.split(down[:, -latent.width :], [latent.kv_rank, latent.rope_dim], -1)
        # [T, H * (nope + rope)] -> [T, H, nope + rope]
        queries = self._queries(x, down).view(len(x), self._num_heads, -1)
        plain, turned = torch.split(queries, [latent.nope_dim, latent.rope_dim], -1)
        turned_keys = self._turn(turning[:, None], step)[:, 0]
        rows = torch.cat((self._norm(kv, self._kv_norm), turned_keys), -1)
        plan.store(rows, step.cache)
        wide = torch.cat((_by_head(self._to_rows, plain), self._turn(turned, step)), -1)
        if self._query_scaling:
            wide = wide * query_scale(self._query_scaling, step.positions).to(wide.dtype)
        out = plan.attend(wide, step.cache, latent.kv_rank, self._scale)
        if step.wanted is not None:
            out = out.index_select(0, step.wanted)
        return self._o.forward(_by_head(self._to_values, out).flatten(1))

    def _queries(self, x: Tensor, down: Tensor) -> Tensor:
        if not self._latent.q_rank:
            return self._q.forward(x)
        return self._q.forward(self._norm(down[:, : self._latent.q_rank], self._q_norm))

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._ops.add_rms_norm(x.contiguous(), None, weight, self._latent.norm_eps)[1]

    def _turn(self, x: Tensor, step: AttentionStep) -> Tensor:
        """Turn what of queries or keys turns, [T, n, rope_dim], which come in two halves then."""
        cos, sin = (part.chunk(2, -1)[1] for part in step.rotation)
        if self._latent.is_interleaved:
            first, second = x[..., ::2], x[..., 1::2]
        else:
            first, second = x.chunk(2, -1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


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


def _by_head(weight: GroupedWeight, x: Tensor) -> Tensor:
    """Multiply each head of x [T, H, K] by its own weight -> [T, H, N]."""
    tokens, heads, _ = x.shape
    ends = torch.arange(1, heads + 1, device=x.device) * tokens
    out = weight.apply(x.transpose(0, 1).flatten(0, 1), ends)
    return out.view(heads, tokens, out.shape[-1]).transpose(0, 1)
