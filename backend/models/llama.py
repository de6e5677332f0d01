"""Llama (Touvron et al. 2023) and its family: SmolLM2, Llama 2 and 3, Mistral without windows.

Written once over the op table: the same lines serve every device and every number of ranks.
"""

from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.layers.compute_context import ComputeContext
from backend.layers.embedding import Embedding, VocabParallelHead
from backend.layers.linear import ColumnParallelLinear, GatedLinear, RowParallelLinear
from backend.layers.loader import WeightLoader
from backend.layers.norm import RMSNorm
from backend.layers.rotary import RotaryEmbedding
from backend.ops.batch import Batch, Rotation
from backend.ops.kv_cache import KVCache
from backend.parallel import TensorParallel
from backend.placement.sharding import Shard
from backend.weights.shapes import EMBEDDING, HEAD


class LlamaModel:
    """One rank's part. T tokens of a step."""

    def __init__(
        self,
        config: ModelConfig,
        source: WeightLoader,
        shard: Shard,
        tp: TensorParallel,
        context: ComputeContext,
        max_len: int,
    ) -> None:
        self._ops = context.ops
        table = (config.vocab_size, config.hidden_size)
        self._layers = [
            LlamaLayer(f"model.layers.{i}", config, source, shard, tp, context)
            for i in range(config.num_layers)
        ]
        self._num_heads = shard.num_heads
        self._norm = RMSNorm(
            source, "model.norm", config.hidden_size, config.rms_norm_eps, self._ops
        )
        head = EMBEDDING if config.tie_word_embeddings else HEAD
        self._head = VocabParallelHead(source, head, table, shard.vocab, context.method)
        is_tied = config.tie_word_embeddings and shard.size == 1
        self._embedding = Embedding(source, EMBEDDING, table, self._head if is_tied else None)
        self._rotary = RotaryEmbedding(config, max_len, context.dtype, context.device)
        source.finish(lambda name: _is_ignorable(name, tied=config.tie_word_embeddings))
        self.weight_bytes = source.weight_bytes
        self.replicated_bytes = source.replicated_bytes

    def forward(self, batch: Batch, kv_cache: KVCache) -> Tensor:
        x = self._embedding.forward(batch.input_ids)  # [T, hidden]
        rotation = self._rotary.at(batch.positions)
        plan = self._ops.plan_attention(batch, kv_cache.layer(0), self._num_heads)
        delta: Tensor | None = None
        for index, layer in enumerate(self._layers):
            is_last = index == len(self._layers) - 1
            wanted = batch.output_tokens if is_last else None
            x, delta = layer.forward(x, delta, rotation, kv_cache.layer(index), plan, wanted)
        return self._norm.forward(x, delta)[1]

    def logits(self, hidden: Tensor) -> Tensor:
        return self._head.forward(hidden)

    def best(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self._head.best(hidden)


class LlamaLayer:
    """Attention and MLP of one layer, each summed over the ranks once."""

    def __init__(
        self,
        prefix: str,
        config: ModelConfig,
        source: WeightLoader,
        shard: Shard,
        tp: TensorParallel,
        context: ComputeContext,
    ) -> None:
        hidden, dim, method = config.hidden_size, config.head_dim, context.method
        self._ops = context.ops
        self._dim = dim
        self._num_heads = shard.num_heads
        heads = slice(shard.heads.start * dim, shard.heads.stop * dim)
        kv_heads = slice(shard.kv_heads.start * dim, shard.kv_heads.stop * dim)
        q_size, kv_size = config.num_heads * dim, config.num_kv_heads * dim

        def norm(name: str) -> RMSNorm:
            return RMSNorm(source, f"{prefix}.{name}", hidden, config.rms_norm_eps, self._ops)

        self._input_norm = norm("input_layernorm")
        self._qkv = ColumnParallelLinear(
            source,
            [f"{prefix}.self_attn.{x}_proj" for x in "qkv"],
            [q_size, kv_size, kv_size],
            [heads, kv_heads, kv_heads],
            hidden,
            method,
            bias=config.attention_bias,
        )
        self._o = RowParallelLinear(
            source,
            f"{prefix}.self_attn.o_proj",
            (hidden, q_size),
            heads,
            method,
            tp,
            bias=config.attention_bias,
        )
        self._post_norm = norm("post_attention_layernorm")
        self._gate_up = GatedLinear(
            source,
            [f"{prefix}.mlp.{x}_proj" for x in ("gate", "up")],
            config.intermediate_size,
            shard.intermediate,
            hidden,
            method,
            self._ops,
            bias=config.mlp_bias,
        )
        self._down = RowParallelLinear(
            source,
            f"{prefix}.mlp.down_proj",
            (hidden, config.intermediate_size),
            shard.intermediate,
            method,
            tp,
            bias=config.mlp_bias,
        )

    def forward(
        self,
        x: Tensor,
        delta: Tensor | None,
        rotation: Rotation,
        cache: Tensor,
        plan: object,
        wanted: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """x + delta: [T, hidden], the residual stream -> the two parts of it after this layer.

        wanted: the tokens [n] whose streams anyone reads again, [n, hidden]; None for all.
        """
        x, normed = self._input_norm.forward(x, delta)
        attended = self._attend(normed, rotation, cache, plan)
        if wanted is not None:
            x, attended = x.index_select(0, wanted), attended.index_select(0, wanted)
        x, normed = self._post_norm.forward(x, self._o.forward(attended))
        return x, self._down.forward(self._gate_up.forward(normed))

    def _attend(self, x: Tensor, rotation: Rotation, cache: Tensor, plan: object) -> Tensor:
        # [T, (Hq + 2 Hkv) * D] -> [T, Hq + 2 Hkv, D]
        qkv = self._qkv.forward(x).view(len(x), -1, self._dim)
        self._ops.rotate_store(qkv, rotation, cache, plan)
        return self._ops.attention(qkv[:, : self._num_heads], cache, plan).flatten(1)


def _is_ignorable(name: str, *, tied: bool) -> bool:
    """Tensors some files carry although they follow from the configuration."""
    return name.endswith((".inv_freq", "rope_freqs.weight")) or (tied and name == HEAD)
