"""The flat plan: what is written is what is read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.step import HEADER_WORDS, Join, PlanCorrupt, PlannedSequence, StepPlan, build_plan
from backend.wire.sampling import SamplingParams


def planned(tokens: list[int], start: int, table: list[int], row: int = 0) -> PlannedSequence:
    return PlannedSequence(tokens, start, table, row, output_position=row)


def test_each_token_gets_its_position_and_slot() -> None:
    plan = build_plan(1, [planned([5], 6, [3, 1]), planned([7, 8, 9], 2, [2, 0], 4)], [], 4)
    assert plan.input_ids.tolist() == [5, 7, 8, 9]
    assert plan.positions.tolist() == [6, 2, 3, 4]
    assert plan.slot_mapping.tolist() == [[1 * 4 + 2, 2 * 4 + 2, 2 * 4 + 3, 0]]
    assert plan.query_starts.tolist() == [0, 1, 4]
    assert plan.context_lens.tolist() == [7, 5]
    assert plan.sample_tokens.tolist() == [0, 3]
    assert plan.sample_rows.tolist() == [0, 4]
    assert plan.num_decodes == 1


def test_each_group_has_its_own_slots_and_tables() -> None:
    sequences = [
        PlannedSequence([5], 6, [3, 1], 0, 0, more_tables=[[4, 4]]),
        PlannedSequence([7, 8], 3, [2, 0], 1, 0, more_tables=[[6, 5]]),
    ]
    plan = build_plan(1, sequences, [], 4)
    assert plan.num_groups == 2
    assert plan.slot_mapping.tolist() == [[6, 11, 0], [18, 27, 20]]
    assert plan.block_tables.tolist() == [[[3, 1], [2, 0]], [[4, 4], [6, 5]]]
    masked = plan.with_masks([1], np.array([[7]], np.int32))
    assert masked.masks.tolist() == [[7]] and masked.mask_samples.tolist() == [1]
    assert np.array_equal(masked.block_tables, plan.block_tables)
    copy = StepPlan.from_bytes(masked.to_bytes())
    assert np.array_equal(copy.slot_mapping, plan.slot_mapping)


def test_blocks_begun_and_not_filled_are_told_of_all_groups() -> None:
    begins = PlannedSequence([1] * 6, 0, [3, 1], 0, 0, more_tables=[[7, 8]])
    fills = PlannedSequence([1] * 4, 0, [4], 1, 0, more_tables=[[9]])
    goes_on = PlannedSequence([1, 1], 1, [5], 2, 0, more_tables=[[6]])
    plan = build_plan(1, [begins, fills, goes_on], [], 4)
    assert plan.begun_blocks(4).tolist() == [1, 8]


def test_encoders_inputs_have_slots_in_blocks_of_their_own() -> None:
    goes_on = PlannedSequence([5], 6, [3, 1], 0, 0, cross_table=[4], num_encoder_tokens=3)
    joins = PlannedSequence([0], 0, [2], 1, 0, 0, [], 0, [], [9, 8], 5, [11, 12, 13, 14, 15])
    also = PlannedSequence([0], 0, [6], 2, 0, 0, [], 0, [], [7], 4, [21, 22, 23, 24])
    built = build_plan(1, [goes_on, joins, also], [], 4)
    plan = StepPlan.from_bytes(built.with_masks([1], np.array([[7]], np.int32)).to_bytes())
    assert plan.encoder_ids.tolist() == [11, 12, 13, 14, 15, 21, 22, 23, 24]
    assert plan.encoder_slots.tolist() == [36, 37, 38, 39, 32, 28, 29, 30, 31]
    assert plan.encoder_lens.tolist() == [5, 4]
    assert plan.cross_lens.tolist() == [3, 5, 4]
    assert plan.cross_tables.tolist() == [[4, 4], [9, 8], [7, 7]]
    assert plan.masks.tolist() == [[7]] and plan.mask_samples.tolist() == [1]
    # Of what is begun and not filled: the decoders' blocks, and the end of the input of five.
    assert plan.begun_blocks(4).tolist() == [2, 6, 8]


def test_plan_without_encoders_has_no_words_for_them() -> None:
    plan = build_plan(1, [planned([5], 6, [3, 1])], [], 4)
    assert len(plan.words) == HEADER_WORDS + 3 + 2 + 1 + 2 + 3
    assert plan.cross_tables.shape == (1, 0)


def test_segments_of_states_are_laid_out_sequence_by_sequence() -> None:
    goes_on = PlannedSequence([5], 6, [3, 1], 0, 0, state_segments=[(1, 2, 2)])
    begins = PlannedSequence([7, 8, 9], 0, [2], 1, 0, state_segments=[(2, -1, 4), (1, 4, 0)])
    built = build_plan(1, [goes_on, begins], [], 4)
    plan = StepPlan.from_bytes(built.with_masks([1], np.array([[7]], np.int32)).to_bytes())
    assert plan.state_starts.tolist() == [0, 1, 3, 4]
    assert plan.state_reads.tolist() == [2, -1, 4]
    assert plan.state_writes.tolist() == [2, 4, 0]
    assert plan.masks.tolist() == [[7]] and plan.mask_samples.tolist() == [1]


def test_chunk_that_does_not_reach_its_end_is_not_sampled() -> None:
    plan = build_plan(1, [PlannedSequence([1, 2], 0, [0], 0, None)], [], 4)
    assert len(plan.sample_tokens) == 0


@given(
    chunks=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 30)), min_size=1, max_size=6),
    joins=st.lists(st.integers(0, 5), max_size=4),
)
def test_plan_survives_the_ring(chunks: list[tuple[int, int]], joins: list[int]) -> None:
    sequences = [
        planned(list(range(count)), start, list(range((start + count) // 4 + 1)), row)
        for row, (count, start) in enumerate(sorted(chunks, key=lambda chunk: chunk[0] != 1))
    ]
    plan = build_plan(9, sequences, [Join(row, SamplingParams(seed=row)) for row in joins], 4)
    copy = StepPlan.from_bytes(plan.to_bytes())
    assert np.array_equal(copy.words, plan.words)
    assert copy.joins == plan.joins and copy.step == 9
    for name in ("slot_mapping", "block_tables", "sample_positions"):
        assert np.array_equal(getattr(copy, name), getattr(plan, name))


@pytest.mark.parametrize("cut", [0, 3, 20, 60])
def test_cut_record_is_refused(cut: int) -> None:
    record = build_plan(1, [planned([1, 2, 3], 0, [0])], [], 4).to_bytes()
    with pytest.raises(PlanCorrupt):
        StepPlan.from_bytes(record[:cut])


def test_foreign_bytes_are_refused() -> None:
    with pytest.raises(PlanCorrupt):
        StepPlan.from_bytes(b"\0" * 64)
