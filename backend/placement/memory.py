"""What a model needs and what fits: weights, KV bytes per token, blocks. No torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from backend.config.model_config import ModelConfig, ModelError
from backend.placement.cgroup import left_bytes
from backend.placement.sharding import Shard
from backend.settings import EngineSettings

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
# StepColumns of what is free: a CPU's memory is also everyone else's, a GPU's is ours.
CPU_KV_SHARE = 0.3
GPU_KV_SHARE = 0.85
# 4 GiB hold 186,000 tokens of the default model; more is rarely touched on a CPU.
CPU_KV_MAX_BYTES = 4 << 30


class ModelFootprint(NamedTuple):
    """What a rank keeps of a model's weights.

    dense_share: of the layers', in the arithmetic's dtype. layer_bits, head_bits: of each weight in
    few bits, with scales and minimums. has_table: an embedding beside the head.
    """

    dense_share: float
    layer_bits: float
    has_dense_head: bool
    head_bits: float
    has_table: bool


def kv_bytes_per_token(config: ModelConfig, dtype: str) -> int:
    """Keys and values of all layers and heads, over all ranks of a group."""
    heads = config.num_layers * config.num_kv_heads
    return 2 * heads * config.head_dim * DTYPE_BYTES[dtype]


def default_kv_bytes(device: str, left_bytes: int) -> int:
    """KV cache of a group for whose ranks so much is left beside weights and activations."""
    if device == "cpu":
        return min(int(left_bytes * CPU_KV_SHARE), CPU_KV_MAX_BYTES)
    return int(left_bytes * GPU_KV_SHARE)


def num_kv_blocks(
    config: ModelConfig, settings: EngineSettings, dtype: str, budget_bytes: int
) -> int:
    """Blocks that fit in the budget of one group. Raises ModelError if not even one does."""
    block_bytes = settings.block_size * kv_bytes_per_token(config, dtype)
    blocks = budget_bytes // block_bytes
    if blocks < 1:
        raise ModelError(
            f"not enough memory for the KV cache: one block of {settings.block_size} tokens needs "
            f"{block_bytes:,} bytes, {budget_bytes:,} are free for it\n"
            "free some memory, or set --kv-cache-bytes or a smaller --block-size"
        )
    return blocks


@dataclass(frozen=True, slots=True)
class RankNeed:
    """What one rank takes besides its KV cache, in bytes."""

    weight_bytes: int
    packed_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.packed_bytes + self.activation_bytes


def rank_need(
    config: ModelConfig,
    shard: Shard,
    dtype: str,
    max_num_seqs: int,
    token_budget: int,
    forms: ModelFootprint,
) -> RankNeed:
    """Estimate a rank's weights, and what a full step holds: one layer's MLP, and the logits.

    Logits are float32, and sampling takes a scaled copy of them.
    """
    hidden, size = config.hidden_size, DTYPE_BYTES[dtype]
    columns = shard.intermediate.stop - shard.intermediate.start
    vocab = shard.vocab.stop - shard.vocab.start
    attention = 2 * (shard.num_heads + shard.num_kv_heads) * config.head_dim * hidden
    words = config.vocab_size * forms.has_table + vocab * forms.has_dense_head
    linears = config.num_layers * (attention + 3 * columns * hidden)
    weights = (int(linears * forms.dense_share) + words * hidden) * size
    step = token_budget * (4 * hidden + 3 * columns) * size
    packed = (int(linears * forms.layer_bits) + int(vocab * hidden * forms.head_bits)) // 8
    return RankNeed(weights, packed, step + 2 * max_num_seqs * vocab * 4)


def check_kv_fits(own_bytes: int, kv_bytes: int, left_bytes: int) -> None:
    """Raise ModelError if a rank's part of a KV cache of set size does not fit beside the rest.

    On a CPU pages are taken when first written: without this the kernel would kill the rank then.
    """
    if own_bytes > left_bytes:
        raise ModelError(
            f"--kv-cache-bytes {kv_bytes} is too much: a rank's part of it is "
            f"{own_bytes / 1e9:,.1f} GB, {left_bytes / 1e9:,.1f} GB are left for it\n"
            "free some memory, set less, or leave it out"
        )


def check_fits(needed_bytes: int, free_bytes: int) -> None:
    """Raise ModelError if that without which nothing can be served does not fit."""
    if needed_bytes > free_bytes:
        raise ModelError(
            f"not enough memory: weights and activations need {needed_bytes / 1e9:,.1f} GB, "
            f"{free_bytes / 1e9:,.1f} GB are free\n"
            "free some memory, take a smaller model, or more devices with --tp"
        )


def available_bytes() -> int:
    """Memory this process could take without swapping: the machine's or its cgroups', if less."""
    available, left = _meminfo("MemAvailable"), left_bytes()
    return available if left is None else max(0, min(available, left))


def _meminfo(field: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    raise RuntimeError(f"/proc/meminfo has no {field}")
