"""What each layer is told of each token by itself (Gemma 3n), and what ends a layer."""

import math

from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.spec import DecoderSpec, Layer, PerLayerInput
from backend.config.tensors import PER_LAYER_EMBEDDING
from backend.layers.compute_context import ComputeContext
from backend.layers.embedding import VocabParallelEmbedding
from backend.layers.loader import WeightLoader
from backend.layers.norm import NormLayer, read_norm_weight
from backend.placement.sharding import Shard


class PerLayerInputs:
    """Tokens, as ids and embedded -> a vector for each layer."""

    def __init__(
        self,
        config: ModelConfig,
        told: PerLayerInput,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
    ) -> None:
        self._ops = context.ops
        self._width, self._eps = told.width, config.spec.norm.eps
        self._table = VocabParallelEmbedding(loader, PER_LAYER_EMBEDDING, shard, context)
        self._projection = loader.pack("model.per_layer_projection.weight")
        weight = read_norm_weight(loader, "model.per_layer_norm", config.spec.norm)
        assert weight is not None, "no family has this norm without a weight"
        self._norm = weight

    def forward(self, input_ids: Tensor, x: Tensor) -> Tensor:
        """[T] ids and [T, hidden], embedded and scaled -> [T, layers, width]."""
        shape = (len(x), -1, self._width)
        projected = (self._projection.apply(x) / math.sqrt(x.shape[1])).view(shape)
        self._ops.head_norm(projected, self._norm, self._eps)
        looked_up = self._table.forward(input_ids).view(shape) * math.sqrt(self._width)
        return (projected + looked_up) * math.sqrt(0.5)


class LayerTail:
    """What a layer does after its MLP: it adds what it is told of tokens, and scales the stream."""

    def __init__(
        self, config: ModelConfig, layer: Layer, loader: WeightLoader, context: ComputeContext
    ) -> None:
        assert isinstance(config.spec, DecoderSpec)
        self._ops = context.ops
        self._told = told = config.spec.per_layer
        if told:
            self._gate = loader.pack("per_layer.gate.weight")
            self._proj = loader.pack("per_layer.proj.weight")
            self._norm = NormLayer(loader, "per_layer.norm", config.spec.norm, context.ops)
        self._has_scalar = layer.has_scalar
        self._scalar = float(loader.take("layer_scalar.weight").item()) if layer.has_scalar else 1.0

    def forward(
        self, x: Tensor, delta: Tensor | None, inputs: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """x + delta: [T, hidden], the stream -> the two parts of it in the end.

        inputs: what the layer is told of the tokens, [T, width].
        """
        if self._told is None and not self._has_scalar:
            return x, delta
        if delta is not None:
            x = self._ops.add(x, delta)
        if self._told:
            assert inputs is not None
            told = self._ops.gate_by(self._gate.apply(x), inputs, self._told.activation)
            normed = self._norm.forward(self._proj.apply(told))[1]
            return self._ops.add(x, normed, self._scalar), None
        return self._ops.scale(x, self._scalar), None
