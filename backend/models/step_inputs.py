"""What the layers of a step share: how heads turn, and attention's plans."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.rope import Rope
from backend.config.spec import Attention, DecoderSpec, Latent, QueryScaling
from backend.layers.attention import AttentionStep, query_scale
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

    num_heads: this rank's. latent: how keys and values are compressed, if they are. sees_ahead: a
    token sees those behind it, too, and nothing is kept. stores_turned: keys have turned, and been
    normalised, before they are stored. scaling: of queries by their positions.
    """

    turn: Turn
    num_heads: int
    attention: AttentionSpec
    latent: Latent | None
    num_kv_heads: int
    sees_ahead: bool
    stores_turned: bool = False
    scaling: QueryScaling | None = None

    @property
    def turns(self) -> list[Turn]:
        """How its heads turn, and, if keys are stored as they are, that."""
        return [self.turn, *[_unturned(self.turn)][: self.stores_turned]]

    @classmethod
    def of(cls, config: ModelConfig, attention: Attention, shard: Shard) -> "AttentionKind":
        """Return a layer's kind on this rank."""
        own = shard.heads_of(attention.num_kv_heads)
        spec = AttentionSpec(attention.scale, attention.softcap, attention.window)
        latent = attention.latent
        turn = (attention.rope, latent.rope_dim if latent else config.head_dim_of(attention))
        sees_ahead = isinstance(config.spec, DecoderSpec) and config.spec.sees_ahead
        return cls(
            turn,
            own.num_heads,
            spec,
            latent,
            own.num_kv_heads,
            sees_ahead,
            attention.norm_turned,
            attention.query_scaling,
        )

    @property
    def query_width(self) -> int:
        """How many numbers a token's queries have."""
        latent = self.latent
        return self.num_heads * (latent.nope_dim + latent.rope_dim if latent else self.turn[1])

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
        if self.latent:
            return ops.plan_latent(batch, cache, self.num_heads, self.latent.kv_rank)
        return ops.plan_attention(batch, cache, self.num_heads, self.attention)


@dataclass(frozen=True, slots=True)
class StepInputs:
    """rotations, plans, scales: of a step, in the order of the layout."""

    layout: "InputLayout"
    rotations: list[Rotation]
    plans: list[Any]
    scales: list[Tensor]

    @property
    def tensors(self) -> list[Tensor]:
        """Return what layers are given, but for plans: a row a token each."""
        return [*(part for rotation in self.rotations for part in rotation), *self.scales]

    def of(self, layer: int, cache: Tensor | None, wanted: Tensor | None) -> AttentionStep:
        """Return what a layer's attention is given. cache: the layer's; wanted: see there."""
        layout = self.layout
        unturned = layout.unturned_of.get(layer)
        scales = layout.scales_of.get(layer)
        return AttentionStep(
            self.rotations[layout.turn_of[layer]],
            cache,
            self.plans[layout.plan_of[layer]],
            wanted,
            None if unturned is None else self.rotations[unturned],
            None if scales is None else self.scales[scales],
        )


class InputLayout:
    """Which of some layers share what, over one cache; found out once.

    turn_of, plan_of: of each layer, by its index, which of a step's rotations and plans it takes.
    unturned_of, scales_of: likewise, of those that take some.
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
        self.unturned_of: dict[int, int] = {}
        self.scales_of: dict[int, int] = {}
        scales: dict[tuple[QueryScaling, int], int] = {}
        self._planned: list[tuple[AttentionKind, int]] = []
        for index in layers:
            if (kind := kinds[index]) is None:
                continue
            self.turn_of[index] = turns.setdefault(kind.turn, len(turns))
            if kind.stores_turned:
                self.unturned_of[index] = turns.setdefault(_unturned(kind.turn), len(turns))
            if kind.scaling:
                of_heads = kind.scaling, kind.query_width
                self.scales_of[index] = scales.setdefault(of_heads, len(scales))
            shape = (kind.turn[1], kind.num_heads, kind.num_kv_heads, kind.attention, kind.latent)
            key = (kind.group_of(kv_cache, index), *shape)
            if key not in plans:
                plans[key] = len(plans)
                self._planned.append((kind, index))
            self.plan_of[index] = plans[key]
        self._turns, self._scales = [*turns], [*scales]
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
            [
                query_scale(scaling, batch.positions)
                .to(self._dtype)
                .view(-1, 1)
                .expand(-1, width)
                .contiguous()
                for scaling, width in self._scales
            ],
        )


def _unturned(turn: Turn) -> Turn:
    """Return how heads of that size do not turn."""
    return None, turn[1]
