"""An encoder-decoder of T5's kin: what its spec says, over the op table.

A step first runs the encoders of the sequences that join in it, each over its whole input, and
keeps keys and values of what comes out for every layer of the decoder; then it runs the decoder's
tokens, of all sequences, over those and their own.
"""

from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.spec import MLP, DecoderSpec, Layer, PromptEncoder
from backend.config.tensors import EMBEDDING, ENCODER_LAYER_PREFIX, HEAD, LAYER_PREFIX
from backend.layers.compute_context import ComputeContext
from backend.layers.cross_attention import (
    CrossAttention,
    DecoderAttention,
    EncoderAttention,
    EncoderDecoderStep,
)
from backend.layers.embedding import Embedding, VocabParallelHead
from backend.layers.loader import WeightLoader
from backend.layers.mlp import DenseMLP
from backend.layers.norm import NormLayer
from backend.layers.position_bias import position_bias
from backend.ops.batch import AttentionSpec, Batch
from backend.ops.encoder_decoder import EncoderDecoderAttention
from backend.ops.kv_cache import KVCache
from backend.ops.score_bias import ScoreBias
from backend.placement.sharding import Shard


class EncoderDecoder:
    """One rank's part. T tokens of decoders, X of encoders that run in a step."""

    def __init__(
        self,
        config: ModelConfig,
        encoder: PromptEncoder,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
    ) -> None:
        assert isinstance(config.spec, DecoderSpec)
        self._logit_scale = config.spec.logit_scale
        self._ops, self._num_heads = context.ops, shard.num_heads
        self._spec = AttentionSpec(config.spec.layers[0].attends.scale)
        self._head = VocabParallelHead(loader, EMBEDDING if config.tie_word_embeddings else HEAD)
        tied = self._head if config.tie_word_embeddings and shard.size == 1 else None
        self._embedding = Embedding(loader, EMBEDDING, tied)
        self._encoder = _Encoder(config, encoder, loader, shard, context)
        self._decoder = _Decoder(config, encoder, loader, shard, context)
        self.weight_bytes = loader.ledger.weight_bytes
        self.replicated_bytes = loader.ledger.replicated_bytes

    def forward(self, batch: Batch, kv_cache: KVCache) -> Tensor:
        cross = batch.cross
        assert cross is not None, "the scheduler gives every sequence an encoder's input"
        attention = self._ops.plan_encoder_decoder(
            batch, kv_cache.layer(0), self._num_heads, self._spec
        )
        if len(cross.start_list) > 1:
            x = self._embedding.forward(cross.input_ids)
            self._decoder.keep(self._encoder.forward(x, attention), attention, kv_cache)
        x = self._embedding.forward(batch.input_ids)
        return self._decoder.forward(x, attention, kv_cache, batch.output_tokens)

    def logits(self, hidden: Tensor) -> Tensor:
        return self._head.forward(hidden) * self._logit_scale

    def argmax(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        values, places = self._head.argmax(hidden)
        return values * self._logit_scale, places


class _Encoder:
    """Whole inputs -> what decoders attend to."""

    def __init__(
        self,
        config: ModelConfig,
        encoder: PromptEncoder,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
    ) -> None:
        norm = config.spec.norm
        self._biases = _biases(
            ENCODER_LAYER_PREFIX,
            encoder,
            len(encoder.layers),
            loader,
            shard,
            context,
            both_ways=True,
        )
        self._layers = [
            _EncoderLayer(config, layer, loader.at(f"{ENCODER_LAYER_PREFIX}{index}"), context)
            for index, layer in enumerate(encoder.layers)
        ]
        self._norm = NormLayer(loader, "encoder.norm", norm, context.ops)

    def forward(self, x: Tensor, attention: EncoderDecoderAttention) -> Tensor:
        """[X, hidden] -> [X, hidden]."""
        delta = None
        for index, layer in enumerate(self._layers):
            x, delta = layer.forward(x, delta, attention, self._biases[index % len(self._biases)])
        return self._norm.forward(x, delta)[1]


class _EncoderLayer:
    def __init__(
        self, config: ModelConfig, layer: Layer, loader: WeightLoader, context: ComputeContext
    ) -> None:
        norm, ops = config.spec.norm, context.ops
        self._input_norm = NormLayer(loader, "input_layernorm", norm, ops)
        self._attention = EncoderAttention(loader.at("self_attn"), config.head_dim, context)
        self._post_norm = NormLayer(loader, "post_attention_layernorm", norm, ops)
        self._mlp = _mlp(layer, loader, context)

    def forward(
        self,
        x: Tensor,
        delta: Tensor | None,
        attention: EncoderDecoderAttention,
        bias: ScoreBias,
    ) -> tuple[Tensor, Tensor]:
        x, normed = self._input_norm.forward(x, delta)
        x, normed = self._post_norm.forward(x, self._attention.forward(normed, attention, bias))
        return x, self._mlp.forward(normed)


class _Decoder:
    """Decoders' tokens -> the states of those that are wanted."""

    def __init__(
        self,
        config: ModelConfig,
        encoder: PromptEncoder,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
    ) -> None:
        self._biases = _biases(
            LAYER_PREFIX, encoder, config.num_layers, loader, shard, context, both_ways=False
        )
        self._layers = [
            _DecoderLayer(config, layer, loader.at(f"{LAYER_PREFIX}{index}"), context)
            for index, layer in enumerate(config.spec.layers)
        ]
        self._norm = NormLayer(loader, "model.norm", config.spec.norm, context.ops)

    def keep(self, encoded: Tensor, attention: EncoderDecoderAttention, kv_cache: KVCache) -> None:
        """Write what each layer attends to of encoders' outputs [X, hidden]."""
        for index, layer in enumerate(self._layers):
            layer.cross_attention.keep(encoded, kv_cache.layer(index), attention)

    def forward(
        self, x: Tensor, attention: EncoderDecoderAttention, kv_cache: KVCache, wanted: Tensor
    ) -> Tensor:
        """[T, hidden] -> [N + P, hidden], of the tokens that are wanted."""
        delta: Tensor | None = None
        for index, layer in enumerate(self._layers):
            bias = self._biases[index % len(self._biases)]
            step = EncoderDecoderStep(kv_cache.layer(index), bias, attention)
            x, delta = layer.forward(x, delta, step)
        assert delta is not None
        return self._norm.forward(x.index_select(0, wanted), delta.index_select(0, wanted))[1]


class _DecoderLayer:
    def __init__(
        self, config: ModelConfig, layer: Layer, loader: WeightLoader, context: ComputeContext
    ) -> None:
        norm, ops, dim = config.spec.norm, context.ops, config.head_dim
        self._input_norm = NormLayer(loader, "input_layernorm", norm, ops)
        self._attention = DecoderAttention(loader.at("self_attn"), dim, context)
        self._cross_norm = NormLayer(loader, "cross_attention_layernorm", norm, ops)
        self.cross_attention = CrossAttention(loader.at("cross_attn"), dim, context)
        self._post_norm = NormLayer(loader, "post_attention_layernorm", norm, ops)
        self._mlp = _mlp(layer, loader, context)

    def forward(
        self, x: Tensor, delta: Tensor | None, step: EncoderDecoderStep
    ) -> tuple[Tensor, Tensor]:
        x, normed = self._input_norm.forward(x, delta)
        x, normed = self._cross_norm.forward(x, self._attention.forward(normed, step))
        x, normed = self._post_norm.forward(x, self.cross_attention.forward(normed, step))
        return x, self._mlp.forward(normed)


def _mlp(layer: Layer, loader: WeightLoader, context: ComputeContext) -> DenseMLP:
    assert isinstance(layer.mlp, MLP), "no family of encoder-decoders has experts"
    return DenseMLP(loader.at("mlp"), layer.mlp, context)


def _biases(
    prefix: str,
    encoder: PromptEncoder,
    num_layers: int,
    loader: WeightLoader,
    shard: Shard,
    context: ComputeContext,
    *,
    both_ways: bool,
) -> list[ScoreBias]:
    """Return the biases of all layers, or the one that they share."""
    return [
        position_bias(
            loader.at(f"{prefix}{index}.self_attn"),
            encoder.bias,
            shard,
            context,
            both_ways=both_ways,
        )
        for index in range(1 if encoder.bias.is_shared else num_layers)
    ]
