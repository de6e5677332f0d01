"""Builds what one rank computes with: settings -> device, dtype, model, KV cache, sampler.

The one place where the pieces of a rank are put together. Called by rank.py in its own process,
and by tests and benchmarks in theirs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from backend.config.load import load_config
from backend.config.model_config import ModelConfig
from backend.engine.footprint import estimate_footprint
from backend.engine.model_runner import ModelRunner
from backend.engine.platform import resolve_device, resolve_dtype, select_method, select_ops
from backend.fault_injection import Faults
from backend.layers.compute_context import ComputeContext
from backend.linear.registry import create_method
from backend.models.model import Model
from backend.models.registry import load_model
from backend.ops.kv_cache import KVCache
from backend.parallel import TensorParallel
from backend.placement.memory import (
    available_bytes,
    check_fits,
    check_kv_fits,
    default_kv_bytes,
    kv_bytes_per_token,
    num_kv_blocks,
    rank_need,
)
from backend.placement.sharding import split_model
from backend.sampling.sampler import Sampler
from backend.settings import EngineSettings
from backend.weights.checkpoint import open_checkpoint
from backend.wire.control import Budget

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
# A prompt's chunk while nobody streams; about 0.2 s on two cores. Beside streams, see
# prefill_budget.py.
CPU_TOKEN_BUDGET = 512
GPU_TOKEN_BUDGET = 2048
WARM_UP_TOKENS = 256


@dataclass(slots=True)
class Engine:
    """One rank, ready to run."""

    config: ModelConfig
    runner: ModelRunner
    model: Model
    device: torch.device
    dtype: str
    kernels: str
    num_blocks: int
    max_model_len: int
    token_budget: int


def build_engine(
    settings: EngineSettings,
    tp: TensorParallel,
    on_progress: Callable[[str, float], None],
    on_budget: Callable[[Budget], None] = lambda budget: None,
    first_rank: int = 0,
) -> Engine:
    """Load this rank's part and warm it up. All ranks of the group must call it.

    on_progress: called with a phase and the fraction of it that is done.
    on_budget: called with what memory this rank is about to take, before it does.
    first_rank: ranks in the groups before this one, to share out the devices.
    Raises ModelError where the operator can do something about it.
    """
    config = load_config(Path(settings.model))
    name = settings.devices[tp.rank] if settings.devices else settings.device
    device = resolve_device(name, first_rank + tp.rank)
    dtype_name = resolve_dtype(settings.dtype, device)
    max_len = min(settings.max_model_len or config.max_model_len, config.max_model_len)
    shard = split_model(config, tp.size)[tp.rank]
    dtype = DTYPES[dtype_name]
    ops = select_ops(settings, dtype, device, config)
    method = create_method(select_method(settings, dtype, device), dtype, device)
    checkpoint = open_checkpoint(Path(settings.model), config)
    token_budget = settings.max_num_batched_tokens or (
        CPU_TOKEN_BUDGET if device.type == "cpu" else GPU_TOKEN_BUDGET
    )
    token_budget = max(token_budget, settings.max_num_seqs + settings.block_size)
    need = rank_need(
        config,
        shard,
        dtype_name,
        settings.max_num_seqs,
        token_budget,
        estimate_footprint(checkpoint, config, method, is_whole=tp.size == 1),
    )
    free_bytes = _free_bytes(device, tp.size * settings.dp)
    check_fits(need.total_bytes, free_bytes)
    left_bytes = (free_bytes - need.total_bytes) * tp.size
    kv_bytes = settings.kv_cache_bytes or default_kv_bytes(device.type, left_bytes)
    num_blocks = _agree_on_blocks(num_kv_blocks(config, settings, dtype_name, kv_bytes), tp)
    per_head = kv_bytes_per_token(config, dtype_name) // config.num_kv_heads
    own_kv_bytes = num_blocks * settings.block_size * per_head * shard.num_kv_heads
    on_budget(
        Budget(
            tp.rank,
            need.weight_bytes,
            need.packed_bytes,
            own_kv_bytes,
            need.activation_bytes,
            free_bytes,
        )
    )
    check_kv_fits(own_kv_bytes, kv_bytes, free_bytes - need.total_bytes)
    model = load_model(
        config,
        checkpoint,
        shard,
        tp,
        ComputeContext(dtype, device, ops, method),
        max_len,
        lambda fraction: on_progress("loading weights", fraction),
    )
    checkpoint.close()
    kv_cache = KVCache(
        config,
        shard,
        num_blocks=num_blocks,
        block_size=settings.block_size,
        dtype=dtype,
        device=device,
    )
    faults = Faults(settings.test_faults, tp.rank)
    sampler = Sampler(
        settings.max_num_seqs,
        shard.vocab,
        tp,
        config.eos_token_ids,
        exact=settings.exact,
        faults=faults,
    )
    runner = ModelRunner(model, kv_cache, sampler, device, faults)
    on_progress("warming up", 0.0)
    runner.warm_up(min(token_budget, WARM_UP_TOKENS, max_len - 1))
    on_progress("warming up", 1.0)
    return Engine(
        config, runner, model, device, dtype_name, ops.name, num_blocks, max_len, token_budget
    )


def _free_bytes(device: torch.device, num_ranks: int) -> int:
    """Memory for one rank: all that is free of its own device, or its share of the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_bytes() // num_ranks


def _agree_on_blocks(num_blocks: int, tp: TensorParallel) -> int:
    """Every rank must cut its cache into the same number of blocks: the least any has room for."""
    return int(tp.all_gather(torch.tensor([num_blocks])).min())
