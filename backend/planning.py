"""From the scheduler's decision to a StepPlan: which tokens of each sequence, scored and sampled.

Reads sequences, changes nothing of theirs.
"""

from collections.abc import Iterable
from collections.abc import Sequence as ListLike

from backend.sequence import Sequence
from backend.step import Join, PlannedSequence, StepPlan, build_plan


def lay_out(
    step: int, shares: Iterable[tuple[Sequence, int]], joins: ListLike[Join], block_size: int
) -> StepPlan:
    """Plan the next `count` tokens of each sequence; those that run one come first."""
    return build_plan(step, [_planned(seq, count) for seq, count in shares], joins, block_size)


def _planned(seq: Sequence, count: int) -> PlannedSequence:
    start = seq.num_computed_tokens
    token_ids = seq.token_ids[start : start + count]
    position = seq.num_output_tokens if seq.samples(count) else None
    if seq.params.prompt_logprobs is None:
        return PlannedSequence(token_ids, start, seq.block_table, seq.row, position)
    due = seq.scores_due(count)
    return PlannedSequence(
        token_ids,
        start,
        seq.block_table,
        seq.row,
        position,
        due.start - start,
        seq.token_ids[due.start + 1 : due.stop + 1],
        seq.params.prompt_logprobs,
    )
