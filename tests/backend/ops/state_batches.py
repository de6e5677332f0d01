"""Batches of segments, for ops of layers that keep states."""

import torch

from backend.ops.batch import Batch, StateBatch
from backend.step import PlannedSequence, build_plan

Segment = tuple[int, int, int]
"""Tokens, the slot read (-1: from zeros), the slot written."""


def state_batch(*sequences: list[Segment]) -> StateBatch:
    """Return what an op is told of sequences of segments."""
    planned = [
        PlannedSequence(
            [1] * sum(count for count, _, _ in segments), 0, [], 0, None, state_segments=segments
        )
        for segments in sequences
    ]
    # Block tables are not looked at: one block holds whatever there is.
    for seq in planned:
        seq.block_table.append(0)
    plan = build_plan(1, planned, [], 1 << 20)
    states = Batch.from_plan(plan, torch.device("cpu")).states
    assert states is not None
    return states
