"""What a model needs and what fits: weights, KV bytes per token, blocks. No torch."""

from pathlib import Path

from backend.config import ModelConfig, ModelError
from backend.settings import EngineSettings

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
# Shares of what is free: a CPU's memory is also everyone else's, a GPU's is ours.
CPU_KV_SHARE = 0.3
GPU_KV_SHARE = 0.85
# 4 GiB hold 186,000 tokens of the default model; more is rarely touched on a CPU.
CPU_KV_MAX_BYTES = 4 << 30


def kv_bytes_per_token(config: ModelConfig, dtype: str) -> int:
    """Keys and values of all layers and heads, over all ranks of a group."""
    heads = config.num_layers * config.num_kv_heads
    return 2 * heads * config.head_dim * DTYPE_BYTES[dtype]


def default_kv_bytes(device: str, free_bytes: int, dp: int) -> int:
    """KV cache for one of `dp` groups that share a machine's free memory."""
    if device == "cpu":
        return min(int(free_bytes * CPU_KV_SHARE / dp), CPU_KV_MAX_BYTES)
    return int(free_bytes * GPU_KV_SHARE)


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


def available_bytes() -> int:
    """Memory this process could take without swapping: the machine's or its cgroup's, if less."""
    available = _meminfo("MemAvailable")
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit is not None and used is not None:
        available = min(available, limit - used)
    return available


def _meminfo(field: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    raise RuntimeError(f"/proc/meminfo has no {field}")


def _cgroup(file: str) -> int | None:
    """A number of this process's cgroup (version 2); None where there is no limit to read."""
    try:
        group = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2]
        text = Path(f"/sys/fs/cgroup{group}/{file}").read_text().strip()
        return int(text)
    except (OSError, ValueError):
        return None
