"""What a model takes of a rank's memory, and how much of it is free here.

Nothing is loaded for it: weights are told, the rest is read off the model's shape. memory_plan.py
decides by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from backend.config.cache_groups import CacheGroup, block_size_of
from backend.config.cache_shapes import KVShape, kv_shapes
from backend.config.model_config import ModelConfig
from backend.placement.cgroup import left_bytes
from backend.placement.sharding import Shard, kv_heads_of_ranks

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


class ModelFootprint(NamedTuple):
    """What a rank keeps of a model's weights, in bytes.

    dense_bytes: in the arithmetic's dtype. packed_bytes: in few bits.
    """

    dense_bytes: int
    packed_bytes: int


@dataclass(frozen=True, slots=True)
class RankMemory:
    """What one rank takes besides its KV cache, in bytes. logit_bytes: of the activations, those
    that draws take of a full batch; the most likely tokens are found without them."""

    weight_bytes: int
    packed_bytes: int
    activation_bytes: int
    logit_bytes: int = 0

    @classmethod
    def estimate(
        cls,
        config: ModelConfig,
        shard: Shard,
        dtype: str,
        footprint: ModelFootprint,
        *,
        max_num_seqs: int,
        token_budget: int,
    ) -> "RankMemory":
        """Add to a rank's weights what a full step holds: one layer's MLP, what layers are told
        of tokens, and the logits.

        Logits are float32, and sampling takes a scaled copy of them.
        """
        hidden, size = config.hidden_size, DTYPE_BYTES[dtype]
        columns = shard.intermediate.stop - shard.intermediate.start
        vocab = shard.vocab.stop - shard.vocab.start if shard.stage.is_last else 0
        step = token_budget * (4 * hidden + 3 * columns + 3 * config.per_layer_width) * size
        logits = 2 * max_num_seqs * vocab * 4
        return cls(*footprint, step + logits, logits)

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.packed_bytes + self.activation_bytes


def rotary_bytes(config: ModelConfig, max_model_len: int, dtype: str) -> int:
    """Return what tables of cosines and sines take, one of each kind of rotation and head size.

    Of Gemma 3 270M, with two kinds and 32,768 positions, 67 MB beside 247 MB of weights.
    """
    tables = {
        (attention.rope, attention.latent.rope_dim if attention.latent else dim)
        for attention in config.attentions
        for dim in (config.head_dim_of(attention),)
        if attention.rope is not None
    }
    return sum(2 * max_model_len * dim * DTYPE_BYTES[dtype] for _, dim in tables)


def kv_bytes_per_head(head_dim: int, dtype: str) -> int:
    """Return what the key and the value of a token take, in one layer and head.

    dtype: theirs. With int8 and fp8 each has a float32 scale.
    """
    if dtype in ("int8", "fp8"):
        return 2 * (head_dim + 4)
    return 2 * head_dim * DTYPE_BYTES[dtype]


def kv_block_bytes(
    config: ModelConfig,
    groups: Sequence[CacheGroup],
    tp: int,
    block_size: int,
    dtype: str,
    layers: range | None = None,
) -> list[int]:
    """Return what each of tp ranks has of a block: of one cache group the keys and values of
    block_size tokens. layers: those of the ranks' stage; None: all."""
    shapes = [
        shape if layers is None or layer in layers else None
        for layer, shape in enumerate(kv_shapes(config))
    ]
    # Layers are many, their shapes one or two.
    by_shape = {shape: _token_bytes(shape, tp, dtype) for shape in set(shapes) if shape}
    return [
        block_size
        * block_size_of(groups, [by_shape[shape][rank] if shape else 0 for shape in shapes])
        for rank in range(tp)
    ]


def _token_bytes(shape: KVShape, tp: int, dtype: str) -> list[int]:
    """Return what each rank has of a token's keys and values in a layer of such a shape."""
    if shape.is_latent:
        return [shape.head_dim * DTYPE_BYTES[dtype]] * tp
    head_bytes = kv_bytes_per_head(shape.head_dim, dtype)
    return [heads * head_bytes for heads in kv_heads_of_ranks(shape.num_kv_heads, tp)]


def available_bytes() -> int:
    """Return what this process could take without swapping, of the machine's or its cgroups'."""
    available, left = _meminfo("MemAvailable"), left_bytes()
    return available if left is None else max(0, min(available, left))


def _meminfo(field: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    raise RuntimeError(f"/proc/meminfo has no {field}")
