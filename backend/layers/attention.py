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
from backend.ops.bidirectional import BidirectionalAttention
from backend.placement.sharding import Shard


@dataclass(frozen=True, slots=True)
class AttentionStep:
    """What a layer's attention is given in a step.

    cache: the layer's; None where nothing is kept. plan: of Ops.plan_attention for the layer's
    kind, or of BidirectionalAttention. wanted: the tokens [n]
    whose results anyone reads; None for all. unturned: the rotation that leaves heads as they are,
    of layers that store keys which have turned. query_scales: [T, Hq * D], what queries are
    multiplied by, of layers with such a scaling.
    """

    rotation: Rotation
    cache: Tensor | None
    plan: object
    wanted: Tensor | None
    unturned: Rotation | None = None
    query_scales: Tensor | None = None


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
        self._dim = config.head_dim_of(attention)
        own = shard.heads_of(attention.num_kv_heads)
        self._num_heads, self._num_kv_heads = own.num_heads, own.num_kv_heads
        self._has_keys = attention.shares_kv_of is None
        self._k_eq_v = attention.k_eq_v
        self._query_scaling = attention.query_scaling
        self._is_gated = attention.is_gated
        names = ["q_proj"]
        if self._has_keys:
            names += ["k_proj"] if attention.k_eq_v else ["k_proj", "v_proj"]
        # What gates the output stands before all else: behind it may come keys a second time.
        self._qkv = ColumnParallelLinear(loader, [*["gate_proj"][: self._is_gated], *names])
        self._o = RowParallelLinear(loader, "o_proj", context)
        self._out_scale = attention.out_scale
        self._scale = attention.scale
        self._qk_norm = (
            QKNorm(config, attention, loader, shard, context)
            if attention.qk_norm != "none"
            else None
        )
        self._norm_turned = attention.norm_turned
        self._v_norm_eps = config.spec.norm.eps if attention.v_norm and self._has_keys else None
        assert not self._k_eq_v or self._v_norm_eps is not None, "values are normed keys"
        self._sinks = loader.take("sinks.weight")[own.heads].float() if attention.sinks else None

    def forward(self, x: Tensor, step: AttentionStep) -> Tensor:
        """[T, hidden] -> [T, hidden], or [n, hidden] of the tokens that are wanted."""
        # [T, (Hq + 2 Hkv) * D] -> [T, Hq + 2 Hkv, D]; of a layer that shares keys, [T, Hq, D]
        if self._k_eq_v:
            projected = self._qkv.with_room(x, self._num_kv_heads * self._dim)
        else:
            projected = self._qkv.forward(x)
        qkv = projected.view(x.shape[0], -1, self._dim)
        if self._is_gated:
            gate = projected[:, : self._num_heads * self._dim]
            qkv = qkv[:, self._num_heads :]
        if self._v_norm_eps is not None:
            values = qkv[:, -self._num_kv_heads :]
            if self._k_eq_v:  # those that are not normalised and not turned yet
                keys = qkv[:, self._num_heads : -self._num_kv_heads]
                self._ops.head_norm_into(keys, None, self._v_norm_eps, values)
            else:
                self._ops.head_norm(values, None, self._v_norm_eps)
        rotation = step.rotation
        if self._qk_norm:
            if self._norm_turned:
                assert step.unturned is not None
                self._ops.rotate(qkv[:, : -self._num_kv_heads], rotation)
                rotation = step.unturned
            self._qk_norm.apply(qkv)
        if isinstance(step.plan, BidirectionalAttention):
            out = self._attend_both_ways(qkv, step, step.plan)
            return self._o.forward(out if step.wanted is None else out.index_select(0, step.wanted))
        assert step.cache is not None
        if self._has_keys:
            self._ops.rotate_store(qkv, rotation, step.cache, step.plan)
        else:
            self._ops.rotate(qkv, rotation)
        queries = qkv[:, : self._num_heads]
        if self._query_scaling:
            assert step.query_scales is not None
            scaled = self._ops.gate_by(step.query_scales, _joined(queries), "linear")
            queries = scaled.view(queries.shape)
        out = self._ops.attention(queries, step.cache, step.plan, self._sinks).flatten(1)
        if self._is_gated:
            out = self._ops.gate_by(gate, out, "sigmoid")
        out = self._o.forward(out if step.wanted is None else out.index_select(0, step.wanted))
        return out if self._out_scale == 1.0 else self._ops.scale(out, self._out_scale)

    def _attend_both_ways(
        self, qkv: Tensor, step: AttentionStep, plan: BidirectionalAttention
    ) -> Tensor:
        """Attend where tokens see those behind them; nothing is kept. Returns [T, Hq * D]."""
        queries_and_keys, values = qkv.tensor_split([-self._num_kv_heads], 1)
        turned = queries_and_keys.contiguous()
        self._ops.rotate(turned, step.rotation)
        group = self._num_heads // self._num_kv_heads
        queries, keys = turned[:, : self._num_heads], turned[:, self._num_heads :]
        spread = [part.repeat_interleave(group, 1) for part in (keys, values)]
        return plan.run(torch.cat((queries, *spread), 1), self._num_heads, self._scale)


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
        own = shard.heads_of(attention.num_kv_heads)
        self._num_heads, self._num_kv_heads = own.num_heads, own.num_kv_heads
        self._kind = attention.qk_norm
        self._norm, self._eps = config.spec.norm, config.spec.norm.eps
        self._query = _weight(loader, "q_norm", config)
        # A layer that shares keys has queries alone.
        has_keys = attention.shares_kv_of is None
        self._key = _weight(loader, "k_norm", config) if has_keys else None
        heads = torch.tensor([config.num_heads, config.num_kv_heads_of(attention)])
        self._widths = (heads * config.head_dim_of(attention)).to(context.device)

    def apply(self, qkv: Tensor) -> None:
        """Normalise in place. qkv: [T, Hq + 2 Hkv, D]."""
        queries = qkv[:, : self._num_heads]
        keys = qkv[:, self._num_heads : self._num_heads + self._num_kv_heads]
        if self._kind == "head":
            self._ops.head_norm(queries, self._query, self._eps)
            if self._key is not None:
                self._ops.head_norm(keys, self._key, self._eps)
            return
        assert self._key is not None, "no family that shares keys has other norms of heads"
        if self._kind == "all" and self._tp.size == 1:
            # One head as wide as all of them.
            self._ops.head_norm(_joined(queries).unsqueeze(1), self._query, self._eps)
            self._ops.head_norm(_joined(keys).unsqueeze(1), self._key, self._eps)
            return
        if self._kind == "each":
            for part, weight in ((queries, self._query), (keys, self._key)):
                self._ops.norm_each_head(part, weight.view(part.shape[1:]), self._norm)
            return
        # The mean is that of all ranks' heads.
        squares = [part.float().pow(2).sum((1, 2)) for part in (queries, keys)]
        sums = self._tp.all_reduce(torch.stack(squares, 1))
        scales = torch.rsqrt(sums / self._widths + self._eps)
        for part, weight, scale in zip(
            (queries, keys), (self._query, self._key), scales.unbind(1), strict=True
        ):
            whole = part.float() * scale[:, None, None] * weight.float().view(part.shape[1:])
            part.copy_(whole)


def _joined(heads: Tensor) -> Tensor:
    """[T, n, D], of which tokens may lie apart -> the same numbers, [T, n * D]. A view, which keeps
    how far apart they lie even where there is one token."""
    tokens, num_heads, dim = heads.shape
    return heads.as_strided((tokens, num_heads * dim), (heads.stride(0), 1))


def _weight(loader: WeightLoader, name: str, config: ModelConfig) -> Tensor:
    weight = read_norm_weight(loader, name, config.spec.norm)
    assert weight is not None, "no family normalises queries and keys without weights"
    return weight


def query_scale(scaling: QueryScaling, positions: Tensor) -> Tensor:
    """[T] positions -> what queries are multiplied by, [T, 1, 1]."""
    turns = torch.floor(positions.float() / scaling.original_len)
    return (1 + scaling.beta * torch.log1p(turns)).view(-1, 1, 1)
