"""Sequences that are over when their last token has run, with a runner that invents vectors."""

import pytest

from backend.config.cache_groups import FULL_GROUPS
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.pooling_scheduler import PoolingScheduler
from backend.scheduler.sequence import Sequence
from backend.wire.messages import FinishReason, SeqOutput
from backend.wire.sampling import SamplingParams

VECTOR = b"\0\0\x80\x3f"


def make_scheduler(*, keeps_keys: bool = False, budget: int = 16) -> PoolingScheduler:
    """An encoder's, or that of a decoder with 16 blocks of 4."""
    return PoolingScheduler(
        BlockPool(16 if keeps_keys else 0, 4),
        max_num_seqs=4,
        max_num_batched_tokens=budget,
        max_model_len=16,
        vocab_size=100,
        groups=FULL_GROUPS if keeps_keys else (),
        runs_whole=not keeps_keys,
    )


def make_sequence(number: int, num_tokens: int, tenant: str = "") -> Sequence:
    prompt = [number] * num_tokens
    params = SamplingParams(max_tokens=0)
    return Sequence((0, number), prompt, num_tokens, params, tenant=tenant)


def step(scheduler: PoolingScheduler, vector: bytes = VECTOR) -> tuple[list[int], list[SeqOutput]]:
    """Run one step; return the lengths of what it ran, and what came of it."""
    plan = scheduler.schedule()
    assert plan is not None
    lens = [
        end - start for start, end in zip(plan.query_starts, plan.query_starts[1:], strict=False)
    ]
    outputs = scheduler.commit_vectors(plan, [vector] * len(plan.sample_rows))
    scheduler.check()
    return lens, [output for _, output in outputs]


def test_texts_are_never_cut_and_fill_a_step_by_tokens() -> None:
    scheduler = make_scheduler()
    for number, num_tokens in enumerate([9, 6, 5, 3]):
        scheduler.add(make_sequence(number, num_tokens))
    lens, outputs = step(scheduler)
    assert lens == [9, 6]
    assert [(out.seq_id, out.finish_reason, out.vector) for out in outputs] == [
        (0, FinishReason.STOP, VECTOR),
        (1, FinishReason.STOP, VECTOR),
    ]
    assert step(scheduler)[0] == [5, 3]
    assert not scheduler.has_work


def test_rows_bound_a_step_as_well() -> None:
    scheduler = make_scheduler()
    for number in range(6):
        scheduler.add(make_sequence(number, 1))
    assert step(scheduler)[0] == [1] * 4
    assert step(scheduler)[0] == [1] * 2


def test_decoder_s_text_runs_in_chunks() -> None:
    scheduler = make_scheduler(keeps_keys=True, budget=6)
    scheduler.add(make_sequence(1, 14))
    assert step(scheduler) == ([6], [])
    assert step(scheduler) == ([6], [])
    lens, [output] = step(scheduler)
    assert lens == [2] and output.vector == VECTOR
    assert scheduler.pool.num_free == 16


def test_text_may_be_as_long_as_the_model_takes() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(1, 16))
    with pytest.raises(ValueError, match="17 tokens do not fit: the model takes 16"):
        scheduler.add(make_sequence(2, 17))
    assert step(scheduler)[0] == [16]


def test_fault_ends_its_text_alone() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(1, 3))
    scheduler.add(make_sequence(2, 3))
    plan = scheduler.schedule()
    assert plan is not None
    outputs = [output for _, output in scheduler.commit_vectors(plan, [b"", VECTOR])]
    assert [output.finish_reason for output in outputs] == [FinishReason.ERROR, FinishReason.STOP]
    assert outputs[0].is_final


def test_aborted_text_is_forgotten() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(1, 3))
    assert scheduler.abort((0, 1))
    assert scheduler.schedule() is None


def test_full_step_waits_while_another_runs() -> None:
    """With credit for one batch alone the next step would begin empty."""
    scheduler = make_scheduler(budget=1000)
    for number in range(4):
        scheduler.add(make_sequence(number, 2))
    assert scheduler.credit > 0
    for number in range(4, 8):
        scheduler.add(make_sequence(number, 2))
    assert scheduler.credit == 0


def test_keys_take_turns() -> None:
    scheduler = make_scheduler()
    for number in range(4):
        scheduler.add(make_sequence(number, 5, tenant="many"))
    scheduler.add(make_sequence(9, 5, tenant="one"))
    _, outputs = step(scheduler)
    assert 9 in [output.seq_id for output in outputs]
