"""What the layers of a step share: how heads turn, and attention's plans."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from backend.config.model_config import ModelConfig
from backend.config.rope import Rope
from backend.config.spec import Attention, DecoderSpec
from backend.layers.rotary import RotaryEmbedding
from backend.ops.batch import AttentionSpec, Batch, Rotation
from backend.ops.bidirectional import BidirectionalAttention, within
from backend.ops.kv_cache import KVCache
from backend.ops.op_table import Ops
from backend.placement.sharding import Shard

# How heads turn, and their size.
Turn = tuple[Rope | None, int]


@dataclass(frozen=True, slots=True)
class AttentionKind:
    """Layers of one kind share a rotation in a step, and, in a cache group, attention's plan.

    num_heads: this rank's. is_latent: keys and values are compressed. sees_ahead: a token sees
    those behind it, too, and nothing is kept.
    """

    turn: Turn
    num_heads: int
    attention: AttentionSpec
    is_latent: bool
    num_kv_heads: int
    sees_ahead: bool

    @classmethod
    def of(cls, config: ModelConfig, attention: Attention, shard: Shard) -> "AttentionKind":
        """Return a layer's kind on this rank."""
        own = shard.heads_of(attention.num_kv_heads)
        spec = AttentionSpec(attention.scale, attention.softcap, attention.window)
        latent = attention.latent
        turn = (attention.rope, latent.rope_dim if latent else config.head_dim_of(attention))
        sees_ahead = isinstance(config.spec, DecoderSpec) and config.spec.sees_ahead
        return cls(turn, own.num_heads, spec, latent is not None, own.num_kv_heads, sees_ahead)

    def group_of(self, kv_cache: KVCache, layer: int) -> int | None:
        """Return the cache group that a layer like this one keeps something in, if any."""
        return None if self.sees_ahead else kv_cache.group_of(layer)

    def plan(
        self, ops: Ops, batch: Batch, kv_cache: KVCache, layer: int, dtype: torch.dtype
    ) -> Any:
        """Plan the attention of layers like this one in a step."""
        if self.sees_ahead:
            window = within(self.attention.window) if self.attention.window else None
            return BidirectionalAttention(batch.query_starts, dtype, batch.positions.device, window)
        batch, cache = batch.group(kv_cache.group_of(layer)), kv_cache.layer(layer)
        if self.is_latent:
            return ops.plan_latent(batch, cache)
        return ops.plan_attention(batch, cache, self.num_heads, self.attention)


@dataclass(frozen=True, slots=True)
class StepInputs:
    """rotations, plans: of a step, in the order of the layout."""

    layout: "InputLayout"
    rotations: list[Rotation]
    plans: list[Any]

    def of(self, layer: int) -> tuple[Rotation, Any]:
        """Return how heads of a layer turn, and the plan of its attention."""
        layout = self.layout
        return self.rotations[layout.turn_of[layer]], self.plans[layout.plan_of[layer]]


class InputLayout:
    """Which of some layers share what, over one cache; found out once.

    turn_of, plan_of: of each layer, by its index, which of a step's rotations and plans it takes.
    """

    def __init__(
        self,
        kinds: Sequence[AttentionKind | None],
        layers: range,
        kv_cache: KVCache,
        dtype: torch.dtype,
    ) -> None:
        turns: dict[Turn, int] = {}
        plans: dict[tuple[object, ...], int] = {}
        self.turn_of: dict[int, int] = {}
        self.plan_of: dict[int, int] = {}
        self._planned: list[tuple[AttentionKind, int]] = []
        for index in layers:
            if (kind := kinds[index]) is None:
                continue
            self.turn_of[index] = turns.setdefault(kind.turn, len(turns))
            head_dim = kind.turn[1]
            shape = (head_dim, kind.num_heads, kind.num_kv_heads, kind.attention)
            key = (kind.group_of(kv_cache, index), *shape)
            if key not in plans:
                plans[key] = len(plans)
                self._planned.append((kind, index))
            self.plan_of[index] = plans[key]
        self._turns = [*turns]
        self._kv_cache, self._dtype = kv_cache, dtype

    def inputs(self, ops: Ops, embeddings: dict[Turn, RotaryEmbedding], batch: Batch) -> StepInputs:
        """Return what these layers share in a step."""
        return StepInputs(
            self,
            [embeddings[turn].at(batch.positions) for turn in self._turns],
            [
                kind.plan(ops, batch, self._kv_cache, index, self._dtype)
                for kind, index in self._planned
            ],
        )
