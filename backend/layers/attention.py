"""Self-attention of a layer: projections, norms of queries and keys, rotation, the cache."""

from dataclasses import dataclass

import torch
from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.spec import Attention, QueryScaling
from backend.layers.compute_context import ComputeContext
from backend.layers.linear import ColumnParallelLinear, RowParallelLinear
from backend.layers.loader import WeightLoader
from backend.layers.norm import read_norm_weight
from backend.ops.batch import Rotation
from backend.placement.sharding import Shard


@dataclass(frozen=True, slots=True)
class AttentionStep:
    """What a layer's attention is given in a step.

    cache: the layer's. plan: of Ops.plan_attention for the layer's kind. wanted: the tokens [n]
    whose results anyone reads; None for all.
    """

    positions: Tensor
    rotation: Rotation
    cache: Tensor
    plan: object
    wanted: Tensor | None


class SelfAttention:
    """This rank's heads of one layer; the ranks' results are summed."""

    def __init__(
        self,
        config: ModelConfig,
        attention: Attention,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
    ) -> None:
        self._ops = context.ops
        self._dim = config.head_dim
        self._num_heads, self._num_kv_heads = shard.num_heads, shard.num_kv_heads
        self._query_scaling = attention.query_scaling
        names = ["q_proj", "k_proj", "v_proj"]
        self._is_gated = attention.is_gated
        self._qkv = ColumnParallelLinear(loader, [*names, "gate_proj"] if self._is_gated else names)
        self._o = RowParallelLinear(loader, "o_proj", context)
        self._qk_norm = (
            QKNorm(config, attention, loader, shard, context)
            if attention.qk_norm != "none"
            else None
        )
        self._sinks = loader.take("sinks.weight")[shard.heads].float() if attention.sinks else None

    def forward(self, x: Tensor, step: AttentionStep) -> Tensor:
        """[T, hidden] -> [T, hidden], or [n, hidden] of the tokens that are wanted."""
        # [T, (Hq + 2 Hkv) * D] -> [T, Hq + 2 Hkv, D]; behind it, where there is one, the gate
        projected = self._qkv.forward(x).view(len(x), -1, self._dim)
        qkv = projected[:, : self._num_heads + 2 * self._num_kv_heads]
        if self._qk_norm:
            self._qk_norm.apply(qkv)
        self._ops.rotate_store(qkv, step.rotation, step.cache, step.plan)
        queries = qkv[:, : self._num_heads]
        if self._query_scaling:
            queries *= query_scale(self._query_scaling, step.positions).to(queries.dtype)
        out = self._ops.attention(queries, step.cache, step.plan, self._sinks).flatten(1)
        if self._is_gated:
            gate = projected[:, qkv.shape[1] :].flatten(1)
            out = (out * torch.sigmoid(gate.float())).to(out.dtype)
        return self._o.forward(out if step.wanted is None else out.index_select(0, step.wanted))


class QKNorm:
    """Normalises queries and keys before they turn: each head by itself, or all as one vector."""

    def __init__(
        self,
        config: ModelConfig,
        attention: Attention,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
    ) -> None:
        self._ops, self._tp = context.ops, context.tp
        self._num_heads, self._num_kv_heads = shard.num_heads, shard.num_kv_heads
        self._is_by_head = attention.qk_norm == "head"
        self._eps = config.spec.norm.eps
        query = read_norm_weight(loader, "q_norm", config.spec.norm)
        key = read_norm_weight(loader, "k_norm", config.spec.norm)
        assert query is not None and key is not None, "no family normalises these without weights"
        self._query, self._key = query, key
        self._widths = torch.tensor([config.num_heads, config.num_kv_heads]) * config.head_dim

    def apply(self, qkv: Tensor) -> None:
        """Normalise in place. qkv: [T, Hq + 2 Hkv, D]."""
        queries = qkv[:, : self._num_heads]
        keys = qkv[:, self._num_heads : self._num_heads + self._num_kv_heads]
        if self._is_by_head:
            self._ops.head_norm(queries, self._query, self._eps)
            self._ops.head_norm(keys, self._key, self._eps)
            return
        # The mean is that of all ranks' heads.
        squares = [part.float().pow(2).sum((1, 2)) for part in (queries, keys)]
        sums = self._tp.all_reduce(torch.stack(squares, 1))
        scales = torch.rsqrt(sums / self._widths.to(sums.device) + self._eps)
        for part, weight, scale in zip(
            (queries, keys), (self._query, self._key), scales.unbind(1), strict=True
        ):
            whole = part.float() * scale[:, None, None] * weight.float().view(part.shape[1:])
            part.copy_(whole)


def query_scale(scaling: QueryScaling, positions: Tensor) -> Tensor:
    """[T] positions -> what queries are multiplied by, [T, 1, 1]."""
    turns = torch.floor(positions.float() / scaling.original_len)
    return (1 + scaling.beta * torch.log1p(turns)).view(-1, 1, 1)
