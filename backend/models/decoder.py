"""A decoder of any family: what its spec says, over the op table.

Written once: the same lines serve every device and every number of ranks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.rope import Rope
from backend.config.spec import MLP, Attention, DecoderSpec, Experts, Layer
from backend.config.tensors import EMBEDDING, HEAD
from backend.layers.attention import AttentionStep, SelfAttention
from backend.layers.compute_context import ComputeContext
from backend.layers.embedding import Embedding, VocabParallelHead
from backend.layers.loader import WeightLoader
from backend.layers.mlp import DenseMLP
from backend.layers.moe import MixtureOfExperts
from backend.layers.norm import NormLayer
from backend.layers.rotary import RotaryEmbedding
from backend.layers.state_mixer import build_mixer
from backend.layers.state_step import StateStep
from backend.ops.batch import AttentionSpec, Batch
from backend.ops.kv_cache import KVCache
from backend.ops.topk import argmax
from backend.placement.sharding import Shard


class Decoder:
    """One rank's part. T tokens of a step."""

    def __init__(
        self,
        config: ModelConfig,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
        max_len: int,
    ) -> None:
        assert isinstance(config.spec, DecoderSpec)
        self._spec = config.spec
        self._ops = context.ops
        self._num_heads = shard.num_heads
        self._layers = [
            DecoderLayer(config, layer, loader.at(f"model.layers.{index}"), shard, context)
            for index, layer in enumerate(config.spec.layers)
        ]
        self._norm = (
            NormLayer(loader, "model.norm", config.spec.norm, context.ops)
            if config.spec.has_final_norm
            else None
        )
        self._head = (
            VocabParallelHead(loader, EMBEDDING if config.tie_word_embeddings else HEAD)
            if config.has_head
            else None
        )
        self._head_bias = loader.take("lm_head.bias") if loader.has("lm_head.bias") else None
        tied = self._head if config.tie_word_embeddings and shard.size == 1 else None
        self._embedding = InputEmbedding(config.spec, loader, tied)
        self._project_out = (
            loader.pack("model.project_out.weight")
            if loader.has("model.project_out.weight")
            else None
        )
        self._ropes = {
            rope: RotaryEmbedding(rope, config.head_dim, max_len, context.dtype, context.device)
            for rope in dict.fromkeys(
                layer.attention.rope for layer in config.spec.layers if layer.attention
            )
        }
        self._kinds = [
            _Kind.of(layer.attention) if layer.attention else None for layer in config.spec.layers
        ]
        self.weight_bytes = loader.ledger.weight_bytes
        self.replicated_bytes = loader.ledger.replicated_bytes

    def forward(self, batch: Batch, kv_cache: KVCache) -> Tensor:
        x = self._embedding.forward(batch.input_ids, batch.positions)  # [T, hidden]
        rotations = {rope: table.at(batch.positions) for rope, table in self._ropes.items()}
        plans: dict[tuple[int, AttentionSpec], object] = {}
        delta: Tensor | None = None
        for index, (layer, kind) in enumerate(zip(self._layers, self._kinds, strict=True)):
            is_last = index == len(self._layers) - 1
            wanted = batch.output_tokens if is_last else None
            attention = state = None
            if kind is not None:
                cache, group = kv_cache.layer(index), kv_cache.group_of(index)
                if (plan := plans.get((group, kind.attention))) is None:
                    plan = self._ops.plan_attention(
                        batch.group(group), cache, self._num_heads, kind.attention
                    )
                    plans[group, kind.attention] = plan
                rotation = rotations[kind.rope]
                attention = AttentionStep(batch.positions, rotation, cache, plan, wanted)
            if states := kv_cache.states.layer(index):
                assert batch.states is not None, "the plan names no slots"
                state = StateStep(states, batch.states, wanted)
            x, delta = layer.forward(x, delta, LayerStep(attention, state, wanted))
        if self._norm:
            x = self._norm.forward(x, delta)[1]
        elif delta is not None:
            x = x + delta
        return x if self._project_out is None else self._project_out.apply(x)

    def logits(self, hidden: Tensor) -> Tensor:
        assert self._head is not None, "a model that only embeds has no logits"
        logits = self._head.forward(hidden)
        if self._head_bias is not None:
            logits += self._head_bias.float()
        if self._spec.logit_scale != 1.0:
            logits *= self._spec.logit_scale
        if cap := self._spec.logit_softcap:
            logits = logits.div_(cap).tanh_().mul_(cap)
        return logits

    def argmax(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        if self._head_bias is not None:
            return argmax(self.logits(hidden))
        assert self._head is not None, "a model that only embeds has no logits"
        # A scale above 0 and a cap leave the largest where it is.
        values, places = self._head.argmax(hidden)
        values = values * self._spec.logit_scale
        if cap := self._spec.logit_softcap:
            values = torch.tanh(values / cap) * cap
        return values, places


@dataclass(frozen=True, slots=True)
class _Kind:
    """What of a step layers may share: the rotation, and attention's plan."""

    rope: Rope | None
    attention: AttentionSpec

    @classmethod
    def of(cls, attention: Attention) -> "_Kind":
        spec = AttentionSpec(attention.scale, attention.softcap, attention.window)
        return cls(attention.rope, spec)


class InputEmbedding:
    """Tokens, and their positions where those are learned, as the first layer takes them."""

    def __init__(
        self, spec: DecoderSpec, loader: WeightLoader, tied: VocabParallelHead | None
    ) -> None:
        self._tokens = Embedding(loader, EMBEDDING, tied)
        self._scale = spec.embedding_scale
        self._positions = loader.take("model.embed_positions.weight") if spec.positions else None
        self._offset = spec.positions.offset if spec.positions else 0
        self._project_in = (
            loader.pack("model.project_in.weight")
            if loader.has("model.project_in.weight")
            else None
        )

    def forward(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        """[T] ids and [T] positions -> [T, hidden]."""
        x = self._tokens.forward(input_ids)
        if self._scale != 1.0:
            x = x * self._scale
        if self._project_in is not None:
            x = self._project_in.apply(x)
        if self._positions is not None:
            x = x + self._positions.index_select(0, positions + self._offset)
        return x


@dataclass(frozen=True, slots=True)
class LayerStep:
    """What a layer is given in a step: what its attention is, what its state mixer is.

    wanted: the tokens [n] whose results anyone reads; None for all.
    """

    attention: AttentionStep | None
    state: StateStep | None
    wanted: Tensor | None


class DecoderLayer:
    """Attention or a state mixer, and the MLP of one layer, each summed over the ranks once."""

    def __init__(
        self,
        config: ModelConfig,
        layer: Layer,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
    ) -> None:
        def norm(name: str) -> NormLayer:
            return NormLayer(loader, name, config.spec.norm, context.ops)

        self._places = layer.norms
        self._scale = layer.residual_scale
        if layer.norms != "after" and (layer.attention or layer.state):
            self._input_norm = norm("input_layernorm")
        if layer.norms != "after" and layer.mlp:
            self._post_norm = norm("post_attention_layernorm")
        if layer.norms in ("after", "around"):
            self._attention_norm, self._mlp_norm = (
                norm("attention_output_norm"),
                norm("mlp_output_norm"),
            )
        self._attention = (
            SelfAttention(config, layer.attention, loader.at("self_attn"), shard, context)
            if layer.attention
            else None
        )
        self._state = (
            build_mixer(config, layer.state, loader, shard, context) if layer.state else None
        )
        self._mlp = _build_mlp(layer.mlp, loader.at("mlp"), context) if layer.mlp else None

    def forward(
        self, x: Tensor, delta: Tensor | None, step: LayerStep
    ) -> tuple[Tensor, Tensor | None]:
        """x + delta: [T, hidden], the residual stream -> the two parts of it after this layer.

        Where step.wanted names n tokens, only those come back, [n, hidden].
        """
        match self._places:
            case "before" if self._mlp is None:
                x, normed = self._input_norm.forward(x, delta)
                return _wanted(x, step), self._scaled(self._mix(normed, step))
            case "before" if self._attention is None and self._state is None:
                delta = None if delta is None else _wanted(delta, step)
                x, normed = self._post_norm.forward(_wanted(x, step), delta)
                return x, self._scaled(self._feed(normed))
            case "before":
                x, normed = self._input_norm.forward(x, delta)
                mixed = self._scaled(self._mix(normed, step))
                x, normed = self._post_norm.forward(_wanted(x, step), mixed)
                return x, self._scaled(self._feed(normed))
            case "around":
                x, normed = self._input_norm.forward(x, delta)
                attended = self._attention_norm.forward(self._mix(normed, step))[1]
                x, normed = self._post_norm.forward(_wanted(x, step), self._scaled(attended))
                return x, self._scaled(self._mlp_norm.forward(self._feed(normed))[1])
            case "after":
                x = x if delta is None else x + delta
                attended = self._attention_norm.forward(self._mix(x, step))[1]
                x = _wanted(x, step) + self._scaled(attended)
                return x, self._scaled(self._mlp_norm.forward(self._feed(x))[1])
            case "after_sum":
                attended = self._scaled(self._mix(x, step))
                x = self._input_norm.forward(_wanted(x, step), attended)[1]
                inner = self._scaled(self._feed(x))
                return self._post_norm.forward(x, inner)[1], None

    def _mix(self, x: Tensor, step: LayerStep) -> Tensor:
        """Return what attention gives, or the state mixer, or the sum of both."""
        mixed = None
        if self._attention is not None:
            assert step.attention is not None
            mixed = self._attention.forward(x, step.attention)
        if self._state is None:
            assert mixed is not None, "a layer without either is not mixed"
            return mixed
        assert step.state is not None
        state = self._state.forward(x, step.state)
        return state if mixed is None else mixed + state

    def _feed(self, x: Tensor) -> Tensor:
        assert self._mlp is not None
        return self._mlp.forward(x)

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self._scale == 1.0 else x * self._scale


def _build_mlp(
    mlp: MLP | Experts, loader: WeightLoader, context: ComputeContext
) -> DenseMLP | MixtureOfExperts:
    if isinstance(mlp, MLP):
        return DenseMLP(loader, mlp, context)
    return MixtureOfExperts(loader, mlp, context)


def _wanted(x: Tensor, step: LayerStep) -> Tensor:
    return x if step.wanted is None else x.index_select(0, step.wanted)
