"""How much memory the longest steps take beside weights and caches, by running them once.

What an estimate by shapes misses (a library's workspace, a kernel's scratch, pieces that the
allocator cannot join) is in what the device says that was taken. So no long batch is the first to
find out. Called for GPUs alone, after the weights are loaded.
"""

from collections.abc import Callable

import torch

from backend.ops.kv_cache import KVCache
from backend.step import Join, PlannedSequence, StepPlan, build_plan
from backend.wire.sampling import SamplingParams

# Drawn with everything that keeps a copy of the logits.
_PARAMS = SamplingParams(temperature=1.0, top_p=0.95, top_k=50, logprobs=1, repetition_penalty=1.1)
# Of what was measured, for pieces that cannot be joined.
MARGIN = 1.05


def longest_steps(
    token_budget: int, max_num_seqs: int, max_len: int, cache: KVCache
) -> list[StepPlan]:
    """Return a prompt's step of as many tokens as a step may have, and decodes of as many rows.

    cache: of the size that profile_room() says.
    """
    return [
        _prompts(token_budget, max_len, cache),
        _decodes(max_num_seqs, max_len, cache),
    ]


def profile_room(
    token_budget: int, max_num_seqs: int, max_len: int, block_size: int, num_groups: int
) -> tuple[int, int]:
    """Return the blocks and the state slots that longest_steps() writes."""
    per_sequence = -(-min(token_budget, max_len) // block_size)
    num_prompts = -(-token_budget // max_len)
    return num_prompts * per_sequence * max(1, num_groups), max(num_prompts, max_num_seqs)


def taken_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Return what a call takes of a GPU at its most, beside what is there before it."""
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_reserved(device)
    run()
    torch.cuda.synchronize(device)
    taken = torch.cuda.max_memory_reserved(device) - before
    torch.cuda.empty_cache()
    return int(taken * MARGIN)


def _prompts(token_budget: int, max_len: int, cache: KVCache) -> StepPlan:
    lens = [max_len] * (token_budget // max_len)
    if rest := token_budget % max_len:
        lens.append(rest)
    sequences, joins, used = [], [], 0
    for row, length in enumerate(sorted(lens, key=lambda n: n != 1)):
        width = -(-length // cache.block_size)
        tables, used = _tables(cache, used, width)
        segments = [(length, -1, row)] if cache.states.num_slots else []
        sequences.append(
            PlannedSequence(
                [0] * length, 0, tables[0], row, 0, more_tables=tables[1:], state_segments=segments
            )
        )
        joins.append(Join(row, _PARAMS, [0], 1))
    return build_plan(0, sequences, joins, cache.block_size)


def _decodes(num_rows: int, max_len: int, cache: KVCache) -> StepPlan:
    """All read and write the same block over and over: what is there is nobody's. Their contexts
    are the longest, since each of a context's pieces has sums of its own."""
    sequences, joins = [], []
    width = -(-max_len // cache.block_size)
    tables = [table * width for table in _tables(cache, 0, 1)[0]]
    for row in range(num_rows):
        segments = [(1, -1, row)] if cache.states.num_slots else []
        sequences.append(
            PlannedSequence(
                [0],
                max_len - 1,
                tables[0],
                row,
                0,
                more_tables=tables[1:],
                state_segments=segments,
            )
        )
        joins.append(Join(row, _PARAMS, [0], 1))
    return build_plan(0, sequences, joins, cache.block_size)


def _tables(cache: KVCache, first: int, width: int) -> tuple[list[list[int]], int]:
    """Return `width` new blocks in each cache group, from `first` on, and what comes after."""
    num_groups = max(1, cache.num_groups)
    tables = [[*range(first + g * width, first + (g + 1) * width)] for g in range(num_groups)]
    return tables, first + num_groups * width
