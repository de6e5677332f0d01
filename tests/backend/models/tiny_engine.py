"""One rank in this process: engines of tiny models, their logits and their text."""

from collections.abc import Sequence as ListLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine, build_engine
from backend.ops.batch import Batch
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from backend.scheduler.state_slots import StateSlots
from backend.settings import EngineSettings
from backend.step import PlannedSequence, build_plan
from backend.wire.sampling import SamplingParams


def engine_of(model: Path, tp: TensorParallel | None = None, **settings: Any) -> Engine:
    """Build a rank: float32 on the CPU, blocks of 4 tokens, unless settings say otherwise."""
    defaults = {"device": "cpu", "dtype": "float32", "block_size": 4, "kv_cache_bytes": 1 << 21}
    group = tp or TensorParallel()
    told = EngineSettings(model=str(model), tp=group.size, **{**defaults, **settings})
    return build_engine(told, group, lambda phase, fraction: None)


def logits_of(
    engine: Engine, prompt: list[int], block_size: int = 4, chunks: ListLike[int] = ()
) -> Tensor:
    """Return logits after each token of the prompt, [T, this rank's words].

    chunks: of how many tokens the first steps are; one step takes the rest.
    """
    num_groups = max(1, len(engine.groups))
    width = len(prompt) // block_size + 1
    table, *others = ([*range(g * width, (g + 1) * width)] for g in range(num_groups))
    sizes = [*chunks, len(prompt) - sum(chunks)]
    parts, start = [], 0
    for step, size in enumerate(size for size in sizes if size):
        tokens = prompt[start : start + size]
        segments = [(size, 0 if start else -1, 0)] if engine.num_slots else []
        planned = PlannedSequence(
            tokens, start, table, 0, 0, more_tables=others, state_segments=segments
        )
        batch = Batch.from_plan(build_plan(step + 1, [planned], [], block_size), engine.device)
        batch.output_tokens = torch.arange(size, device=engine.device)
        batch.output_list = [*range(size)]
        with torch.inference_mode():
            hidden = engine.model.forward(batch, engine.runner._kv_cache)
            parts.append(engine.model.logits(hidden))
        start += size
    return torch.cat(parts)


def scheduler_of(
    engine: Engine,
    block_size: int = 4,
    budget: int = 64,
    max_num_seqs: int = 8,
    snapshot_interval: int = 16,
    prefix_caching: bool = True,
) -> Scheduler:
    """Return what schedules an engine's steps, of `budget` tokens at most."""
    states = None
    if engine.num_slots:
        states = StateSlots(engine.num_slots, max_num_seqs, block_size, snapshot_interval)
    return Scheduler(
        BlockPool(engine.num_blocks, block_size),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=budget,
        max_model_len=engine.max_model_len,
        vocab_size=engine.config.vocab_size,
        groups=engine.groups,
        states=states,
        prefix_caching=prefix_caching,
    )


def run(engine: Engine, scheduler: Scheduler, sequences: list[Sequence]) -> dict[int, list[int]]:
    """Run sequences together to their end; seq_id -> output tokens."""
    for seq in sequences:
        scheduler.add(seq)
    outputs: dict[int, list[int]] = {seq.key[1]: [] for seq in sequences}
    calls = engine.runner.num_forward_calls
    steps = 0
    while (plan := scheduler.schedule()) is not None:
        result = engine.runner.run(plan)
        steps += 1
        for _, output in scheduler.commit(plan, result.token_ids):
            outputs[output.seq_id] += output.token_ids
    assert engine.runner.num_forward_calls - calls == steps, "one forward call per step"
    return outputs


def sequence(number: int, prompt: list[int], **params: Any) -> Sequence:
    """Return a sequence of client 0 that has not begun."""
    return Sequence((0, number), list(prompt), len(prompt), SamplingParams(**params))
