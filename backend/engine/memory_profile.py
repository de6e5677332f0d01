"""How much memory the longest steps take beside weights and caches, by running them once.

What an estimate by shapes misses (a library's workspace, a kernel's scratch, pieces that the
allocator cannot join) is in what the device says that was taken. So no long batch is the first to
find out. Called for GPUs alone, after the weights are loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from backend.ops.kv_cache import KVCache
from backend.step import Join, PlannedSequence, StepPlan, build_plan
from backend.wire.sampling import SamplingParams

# Drawn with everything that keeps a copy of the logits.
_PARAMS = SamplingParams(temperature=1.0, top_p=0.95, top_k=50, logprobs=1, repetition_penalty=1.1)
# Of what was measured, for pieces that cannot be joined.
MARGIN = 1.05


@dataclass(frozen=True, slots=True)
class Longest:
    """What a step may have at most.

    tokens: of a step, num_seqs: sequences, length: tokens of one. has_encoder: each sequence begins
    with a whole input, however little of the step is left for it.
    """

    tokens: int
    num_seqs: int
    length: int
    has_encoder: bool = False

    def prompts(self) -> list[int]:
        """Return how long the prompts of the longest step are."""
        tokens = self.tokens + self.length * self.has_encoder
        lens = [self.length] * (tokens // self.length)
        if rest := tokens % self.length:
            lens.append(rest)
        return lens[: self.num_seqs]

    def room(self, block_size: int, num_groups: int) -> tuple[int, int]:
        """Return the blocks and the state slots that longest_steps() writes."""
        lens = self.prompts()
        blocks = len(lens) * -(-max(lens) // block_size) * max(1, num_groups)
        return blocks + len(lens) * max(1, num_groups) * self.has_encoder, self.num_seqs


def longest_steps(longest: Longest, cache: KVCache) -> list[StepPlan]:
    """Return a prompts' step of as many tokens as a step may have, and decodes of as many rows.

    cache: of the size that `longest` has room for.
    """
    prompts = _inputs if longest.has_encoder else _prompts
    return [prompts(longest, cache), _decodes(longest, cache)]


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


def _inputs(longest: Longest, cache: KVCache) -> StepPlan:
    """Decoders begin, whose encoders read their inputs in the same step."""
    sequences, joins, used = [], [], 0
    for row, length in enumerate(longest.prompts()):
        tables, used = _tables(cache, used, 1)
        [cross, *_], used = _tables(cache, used, -(-length // cache.block_size))
        sequences.append(
            PlannedSequence(
                [0],
                0,
                tables[0],
                row,
                0,
                more_tables=tables[1:],
                cross_table=cross,
                num_encoder_tokens=length,
                encoder_ids=[0] * length,
            )
        )
        joins.append(Join(row, _PARAMS, [0], 1))
    return build_plan(0, sequences, joins, cache.block_size)


def _prompts(longest: Longest, cache: KVCache) -> StepPlan:
    sequences, joins, used = [], [], 0
    for row, length in enumerate(sorted(longest.prompts(), key=lambda n: n != 1)):
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


def _decodes(longest: Longest, cache: KVCache) -> StepPlan:
    """All read and write the same block over and over: what is there is nobody's. Their contexts
    are the longest, since each of a context's pieces has sums of its own."""
    sequences, joins = [], []
    width = -(-longest.length // cache.block_size)
    tables = [table * width for table in _tables(cache, 0, 1)[0]]
    cross = (tables[0], longest.length) if longest.has_encoder else ([], 0)
    for row in range(longest.num_seqs):
        segments = [(1, -1, row)] if cache.states.num_slots else []
        sequences.append(
            PlannedSequence(
                [0],
                longest.length - 1,
                tables[0],
                row,
                0,
                more_tables=tables[1:],
                cross_table=cross[0],
                num_encoder_tokens=cross[1],
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
