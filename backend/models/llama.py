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
from backend.placement.sharding import Shard
from backend.weights.shapes import EMBEDDING, HEAD


class LlamaModel:
    """One rank's part. T tokens of a step."""

    def __init__(
        self,
        config: ModelConfig,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
        max_len: int,
    ) -> None:
        hidden, is_tied = config.hidden_size, config.tie_word_embeddings
        self._ops = context.ops
        self._num_heads = shard.num_heads
        self._layers = [
            LlamaLayer(config, loader.at(f"model.layers.{i}"), shard, context)
            for i in range(config.num_layers)
        ]
        self._norm = RMSNorm(loader, "model.norm", hidden, config.rms_norm_eps, self._ops)
        head = EMBEDDING if is_tied else HEAD
        self._head = VocabParallelHead(loader, head, shard.tokens(config), hidden)
        tied = self._head if is_tied and shard.size == 1 else None
        self._embedding = Embedding(loader, EMBEDDING, (config.vocab_size, hidden), tied)
        self._rotary = RotaryEmbedding(config, max_len, context.dtype, context.device)
        loader.finish(lambda name: _is_ignorable(name, tied=is_tied))
        self.weight_bytes = loader.ledger.weight_bytes
        self.replicated_bytes = loader.ledger.replicated_bytes

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

    def argmax(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self._head.argmax(hidden)


class LlamaLayer:
    """Attention and MLP of one layer, each summed over the ranks once."""

    def __init__(
        self, config: ModelConfig, loader: WeightLoader, shard: Shard, context: ComputeContext
    ) -> None:
        hidden, eps = config.hidden_size, config.rms_norm_eps
        attention, mlp = loader.at("self_attn"), loader.at("mlp")
        bias, mlp_bias = config.attention_bias, config.mlp_bias
        q, kv, columns = shard.q(config), shard.kv(config), shard.mlp(config)
        self._ops = context.ops
        self._dim = config.head_dim
        self._num_heads = shard.num_heads
        self._input_norm = RMSNorm(loader, "input_layernorm", hidden, eps, self._ops)
        self._qkv = ColumnParallelLinear(
            attention, ["q_proj", "k_proj", "v_proj"], [q, kv, kv], hidden, bias=bias
        )
        self._o = RowParallelLinear(attention, "o_proj", q, hidden, context, bias=bias)
        self._post_norm = RMSNorm(loader, "post_attention_layernorm", hidden, eps, self._ops)
        self._gate_up = GatedLinear(
            mlp, ["gate_proj", "up_proj"], columns, hidden, context, bias=mlp_bias
        )
        self._down = RowParallelLinear(mlp, "down_proj", columns, hidden, context, bias=mlp_bias)

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
