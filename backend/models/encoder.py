"""An encoder of any family: what its spec says, over the op table.

Written once: the same lines serve every device and every number of ranks.
"""

from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.spec import MLP, EncoderSpec, Layer
from backend.config.tensors import EMBEDDING
from backend.layers.compute_context import ComputeContext
from backend.layers.linear import ColumnParallelLinear, RowParallelLinear
from backend.layers.loader import WeightLoader
from backend.layers.mlp import DenseMLP
from backend.layers.norm import NormLayer
from backend.layers.relative_bias import RelativeBiasTable
from backend.layers.score_head import ScoreHead
from backend.ops.batch import Batch
from backend.ops.bidirectional import BidirectionalAttention
from backend.ops.kv_cache import KVCache
from backend.placement.sharding import Shard


class Encoder:
    """One rank's part. T tokens of a step, all of their sequences'."""

    def __init__(
        self,
        config: ModelConfig,
        spec: EncoderSpec,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
    ) -> None:
        self._context = context
        self._embedding = EncoderEmbedding(spec, loader, context)
        self._bias = (
            RelativeBiasTable(loader.take("model.relative_bias.weight"), spec.relative_bias, shard)
            if spec.relative_bias
            else None
        )
        self._layers = [
            EncoderLayer(config, layer, loader.at(f"model.layers.{index}"), shard, context)
            for index, layer in enumerate(spec.layers)
        ]
        head = spec.classifier
        self._classifier = ScoreHead(loader, head, spec.norm, context.ops) if head else None
        self.weight_bytes = loader.ledger.weight_bytes
        self.replicated_bytes = loader.ledger.replicated_bytes

    def forward(self, batch: Batch, kv_cache: KVCache) -> Tensor:
        """Return [n, hidden], the states of batch.output_tokens. The cache has no layers."""
        x = self._embedding.forward(batch)
        attention = BidirectionalAttention(
            batch.query_starts,
            self._context.dtype,
            self._context.device,
            self._bias.scores if self._bias else None,
        )
        for layer in self._layers[:-1]:
            x = layer.forward(x, attention)
        wanted = batch.output_tokens
        return self._layers[-1].forward(x, attention, None if len(wanted) == len(x) else wanted)

    def score(self, hidden: Tensor) -> Tensor:
        """[n, hidden] of first tokens -> the classifier's logits, [n], float32."""
        assert self._classifier is not None, "only a cross-encoder scores"
        return self._classifier.forward(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        raise NotImplementedError("an encoder makes no text")

    def argmax(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("an encoder makes no text")


class EncoderEmbedding:
    """Tokens, their positions and their types, summed and normalised."""

    def __init__(self, spec: EncoderSpec, loader: WeightLoader, context: ComputeContext) -> None:
        self._tokens = loader.embedding(EMBEDDING)
        self._positions = loader.take("model.embed_positions.weight") if spec.positions else None
        self._offset = spec.positions.offset if spec.positions else 0
        self._types = loader.take("model.embed_token_types.weight") if spec.token_types else None
        self._norm = NormLayer(loader, "model.embedding_norm", spec.norm, context.ops)

    def forward(self, batch: Batch) -> Tensor:
        """Return [T, hidden], float32."""
        x = self._tokens(batch.input_ids).float()
        if self._positions is not None:
            x = x + self._positions.index_select(0, batch.positions + self._offset)
        if self._types is not None:
            if batch.token_types is None:
                x = x + self._types[0]
            else:
                x = x + self._types.index_select(0, batch.token_types)
        return self._norm.forward(x)[1]


class EncoderLayer:
    """Attention and MLP of one layer, each summed over the ranks once; norms behind the sums.

    The stream between them is float32; products are in the context's dtype.
    """

    def __init__(
        self,
        config: ModelConfig,
        layer: Layer,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
    ) -> None:
        assert layer.norms == "after_sum" and isinstance(layer.mlp, MLP)
        self._dtype = context.dtype
        self._head_dim = config.head_dim
        self._num_heads = shard.num_heads
        self._scale = layer.attends.scale
        attention = loader.at("self_attn")
        self._qkv = ColumnParallelLinear(attention, ["q_proj", "k_proj", "v_proj"])
        self._o = RowParallelLinear(attention, "o_proj", context)
        norm = config.spec.norm
        self._attention_norm = NormLayer(loader, "input_layernorm", norm, context.ops)
        self._mlp = DenseMLP(loader.at("mlp"), layer.mlp, context)
        self._mlp_norm = NormLayer(loader, "post_attention_layernorm", norm, context.ops)

    def forward(
        self, x: Tensor, attention: BidirectionalAttention, wanted: Tensor | None = None
    ) -> Tensor:
        """[T, hidden] -> [T, hidden], or [n, hidden] of the tokens that are wanted."""
        qkv = self._qkv.forward(x.to(self._dtype)).view(len(x), -1, self._head_dim)
        attended = attention.run(qkv, self._num_heads, self._scale)
        if wanted is not None:
            x, attended = x.index_select(0, wanted), attended.index_select(0, wanted)
        x = self._attention_norm.forward(x, self._o.forward(attended))[1]
        return self._mlp_norm.forward(x, self._mlp.forward(x.to(self._dtype)))[1]
