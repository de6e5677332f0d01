"""A plan on the device: what layers of each cache group attend by."""

import pytest

from backend.ops.batch import Batch
from backend.step import PlannedSequence, StepPlan, build_plan
from tests.backend.attention_cases import CPU
from tests.backend.ops.state_batches import state_batch
from tests.backend.scheduler.test_scheduler import make_scheduler, make_sequence


def plan_of(more_tables: list[list[int]]) -> StepPlan:
    sequence = PlannedSequence([5, 6], 3, [3, 1], 0, 0, more_tables=more_tables)
    return build_plan(1, [sequence], [], 4)


def test_batch_has_the_tables_of_one_group() -> None:
    batch = Batch.from_plan(plan_of([[7, 2]]), CPU)
    assert batch.slot_mapping.tolist() == [15, 4] and batch.block_tables.tolist() == [[3, 1]]
    second = batch.group(1)
    assert second.slot_mapping.tolist() == [31, 8] and second.block_tables.tolist() == [[7, 2]]
    assert second.input_ids is batch.input_ids and second.context_lens == [5]
    assert second.group(0).block_tables.tolist() == [[3, 1]]
    assert second.slot_mapping.is_contiguous() and second.block_tables.is_contiguous()


def test_batch_without_a_cache_has_no_tables() -> None:
    scheduler = make_scheduler(num_blocks=0, groups=[])
    scheduler.add(make_sequence(1, [5, 6, 7]))
    plan = scheduler.schedule()
    assert plan is not None
    batch = Batch.from_plan(plan, CPU)
    assert batch.input_ids.tolist() == [5, 6, 7] and batch.positions.tolist() == [0, 1, 2]
    assert batch.slot_mapping.numel() == 0 and batch.block_tables.numel() == 0
    with pytest.raises(IndexError):
        batch.group(0)


def test_tokens_alone_see_what_was_before_them() -> None:
    sequences = [
        PlannedSequence([5], 6, [3, 1], 0, 0, more_tables=[[8, 9]]),
        PlannedSequence([6, 7, 8], 2, [4, 2], 1, 0, more_tables=[[6, 5]]),
    ]
    batch = Batch.from_plan(build_plan(1, sequences, [], 4), CPU).alone([3, 0])
    assert batch.input_ids.tolist() == [8, 5] and batch.positions.tolist() == [4, 6]
    assert batch.context_lens == [5, 7] and batch.query_starts == [0, 1, 2]
    assert batch.num_decodes == 2 and batch.output_tokens.tolist() == [0, 1]
    assert batch.block_tables.tolist() == [[4, 2], [3, 1]]
    assert batch.group(1).block_tables.tolist() == [[6, 5], [8, 9]]
    assert batch.group(1).block_tables.is_contiguous()


def test_batch_knows_which_segments_are_of_which_sequence() -> None:
    states = state_batch([(1, 2, 2)], [(2, -1, 4), (1, 4, 0)], [(3, 1, 1)])
    assert states.start_list == states.starts.tolist() == [0, 1, 3, 4, 7]
    assert states.chain_list == states.chains.tolist() == [0, 1, 3, 4]
    assert states.reads.tolist() == [2, -1, 4, 1]
    assert Batch.from_plan(plan_of([[7, 2]]), CPU).states is None
