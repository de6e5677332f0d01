"""One layer of a decoder: what mixes tokens, the MLP, and where its norms are."""

from dataclasses import dataclass

from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.spec import MLP, Attention, Experts, Layer
from backend.layers.attention import AttentionStep, SelfAttention
from backend.layers.compute_context import ComputeContext
from backend.layers.experts_beside import ExpertsBeside
from backend.layers.latent_attention import LatentAttention
from backend.layers.loader import WeightLoader
from backend.layers.mlp import DenseMLP
from backend.layers.moe import MixtureOfExperts
from backend.layers.norm import NormLayer
from backend.layers.state_mixer import build_mixer
from backend.layers.state_step import StateStep
from backend.placement.sharding import Shard


@dataclass(frozen=True, slots=True)
class LayerStep:
    """What a layer is given in a step: what its attention is, what its state mixer is.

    wanted: the tokens [n] whose results anyone reads; None for all.
    """

    attention: AttentionStep | None
    state: StateStep | None
    wanted: Tensor | None

    def pick(self, x: Tensor) -> Tensor:
        """Return the rows of the tokens that are read, [n, ...] of [T, ...]."""
        return x if self.wanted is None else x.index_select(0, self.wanted)


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

        self._ops = context.ops
        self._places = layer.norms
        self._scale = layer.residual_scale
        is_normed = layer.norms != "after" and layer.is_input_normed
        self._input_norm = (
            norm("input_layernorm") if is_normed and (layer.attention or layer.state) else None
        )
        if layer.norms not in ("after", "parallel") and layer.mlp:
            self._post_norm = norm("post_attention_layernorm")
        if layer.norms in ("after", "around"):
            self._attention_norm, self._mlp_norm = (
                norm("attention_output_norm"),
                norm("mlp_output_norm"),
            )
        self._attention = (
            _build_attention(config, layer.attention, loader.at("self_attn"), shard, context)
            if layer.attention
            else None
        )
        self._state = (
            build_mixer(config, layer.state, loader, shard, context) if layer.state else None
        )
        self._mlp = _build_mlp(layer.mlp, loader.at("mlp"), context) if layer.mlp else None
        self._beside = (
            ExpertsBeside(config, layer.beside, loader, context) if layer.beside else None
        )

    def forward(
        self, x: Tensor, delta: Tensor | None, step: LayerStep
    ) -> tuple[Tensor, Tensor | None]:
        """x + delta: [T, hidden], the residual stream -> the two parts of it after this layer.

        Where step.wanted names n tokens, only those come back, [n, hidden].
        """
        match self._places:
            case "before" if self._mlp is None:
                x, normed = self._normed(x, delta)
                return step.pick(x), self._scaled(self._mix(normed, step))
            case "before" if self._attention is None and self._state is None:
                delta = None if delta is None else step.pick(delta)
                x, normed = self._post_norm.forward(step.pick(x), delta)
                return x, self._scaled(self._feed(normed))
            case "before":
                x, normed = self._normed(x, delta)
                mixed = self._scaled(self._mix(normed, step))
                x, normed = self._post_norm.forward(step.pick(x), mixed)
                return x, self._scaled(self._feed(normed))
            case "around":
                x, normed = self._normed(x, delta)
                attended = self._attention_norm.forward(self._mix(normed, step))[1]
                x, normed = self._post_norm.forward(step.pick(x), self._scaled(attended))
                inner = self._feed(normed)
                if self._beside:
                    inner = self._beside.forward(inner, x)
                return x, self._scaled(self._mlp_norm.forward(inner)[1])
            case "after":
                x = x if delta is None else self._ops.add(x, delta)
                attended = self._attention_norm.forward(self._mix(x, step))[1]
                x = self._ops.add(step.pick(x), self._scaled(attended))
                return x, self._scaled(self._mlp_norm.forward(self._feed(x))[1])
            case "after_sum":
                attended = self._scaled(self._mix(x, step))
                assert self._input_norm is not None
                x = self._input_norm.forward(step.pick(x), attended)[1]
                inner = self._scaled(self._feed(x))
                return self._post_norm.forward(x, inner)[1], None
            case "parallel" | "parallel_two":
                x, normed = self._normed(x, delta)
                mixed, x = self._mix(normed, step), step.pick(x)
                if self._places == "parallel":
                    normed = step.pick(normed)
                else:
                    normed = self._post_norm.forward(x)[1]
                return x, self._scaled(self._ops.add(mixed, self._feed(normed)))

    def _normed(self, x: Tensor, delta: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the stream, and what attention is given of it."""
        if self._input_norm is not None:
            return self._input_norm.forward(x, delta)
        x = x if delta is None else self._ops.add(x, delta)
        return x, x

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
        return state if mixed is None else self._ops.add(mixed, state)

    def _feed(self, x: Tensor) -> Tensor:
        assert self._mlp is not None
        return self._mlp.forward(x)

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self._scale == 1.0 else self._ops.scale(x, self._scale)


def _build_attention(
    config: ModelConfig,
    attention: Attention,
    loader: WeightLoader,
    shard: Shard,
    context: ComputeContext,
) -> SelfAttention | LatentAttention:
    if attention.latent:
        return LatentAttention(config, attention, loader, shard, context)
    return SelfAttention(config, attention, loader, shard, context)


def _build_mlp(
    mlp: MLP | Experts, loader: WeightLoader, context: ComputeContext
) -> DenseMLP | MixtureOfExperts:
    if isinstance(mlp, MLP):
        return DenseMLP(loader, mlp, context)
    return MixtureOfExperts(loader, mlp, context)
