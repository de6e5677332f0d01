"""What to say when a device runs out of memory while a rank starts, and what would fit.

The numbers are the memory plan's, so that `unisono plan` and a start speak of the same things.
"""

from backend.config.errors import ModelError
from backend.placement.memory_plan import MemoryPlan
from backend.settings import EngineSettings

# A start that failed by little is not told to ask for nearly as much again.
KEPT_SHARE = 0.8


def out_of_memory(
    plan: MemoryPlan, settings: EngineSettings, device: str, while_: str
) -> ModelError:
    """Return what ends a rank whose device had no room left. while_: what it was doing."""
    memory = plan.rank_memory
    parts = [
        f"weights {_gb(memory.weight_bytes + memory.packed_bytes)}",
        f"a step {_gb(memory.activation_bytes)}",
        f"KV cache {_gb(plan.kv_bytes)}",
    ]
    if plan.states.bytes:
        parts.append(f"states {_gb(plan.states.bytes)}")
    return ModelError(
        f"{device} ran out of memory while {while_}: planned were {', '.join(parts)}, "
        f"{_gb(plan.free_bytes)} were free\n"
        f"{_advice(plan, settings)}\n"
        "or let nobody else use it (see nvidia-smi), quantise (--quantization int4), or share the "
        "model out with --tp"
    )


def _advice(plan: MemoryPlan, settings: EngineSettings) -> str:
    less_kv = int(plan.kv_budget_bytes * KEPT_SHARE) >> 20 << 20
    fewer_tokens = max(settings.max_num_seqs + settings.block_size, plan.token_budget // 2)
    ways = [f"set --kv-cache-bytes {less_kv}"]
    if fewer_tokens < plan.token_budget:
        ways.append(f"--max-num-batched-tokens {fewer_tokens}")
    if settings.max_num_seqs > 1:
        ways.append(f"--max-num-seqs {max(1, settings.max_num_seqs // 2)}")
    if not settings.enforce_eager:
        ways.append("--enforce-eager")
    return ", ".join(ways[:-1]) + f" or {ways[-1]}" if len(ways) > 1 else ways[0]


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.1f} GB"
