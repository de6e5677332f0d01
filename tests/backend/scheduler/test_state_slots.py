"""Slots of states: who has which, and what is kept of whom."""

from backend.scheduler.scheduler import Scheduler
from backend.scheduler.state_slots import StateSlots
from backend.step import StepPlan
from backend.wire.messages import StateFigures
from tests.backend.scheduler.test_scheduler import make_scheduler, make_sequence, step


def scheduler_of(slots: int, seqs: int = 2, interval: int = 400, blocks: int = 64) -> Scheduler:
    """Blocks of 4 tokens; steps of 16."""
    states = StateSlots(slots, seqs, 4, interval)
    return make_scheduler(blocks, 4, seqs, 16, states=states)


def plan_of(scheduler: Scheduler) -> StepPlan:
    plan, _ = step(scheduler)
    assert plan is not None
    return plan


def segments(plan: StepPlan) -> list[tuple[int, int, int]]:
    """(end, slot read, slot written) of each."""
    parts = plan.state_starts[1:], plan.state_reads, plan.state_writes
    return list(zip(*(part.tolist() for part in parts), strict=True))


def test_sequence_reads_and_writes_its_own_slot() -> None:
    scheduler = scheduler_of(2)
    scheduler.add(make_sequence(0, [1, 2, 3], 9))
    [(_, read, slot)] = segments(plan_of(scheduler))
    assert read == -1
    assert [segments(plan_of(scheduler)) for _ in range(3)] == [[(1, slot, slot)]] * 3


def test_states_behind_the_last_full_block_are_kept_amid_a_step() -> None:
    scheduler = scheduler_of(4)
    scheduler.add(make_sequence(0, [*range(1, 11)], 9))
    (end, begins, kept), (last, goes_on, own) = segments(plan_of(scheduler))
    assert (end, last, begins, goes_on) == (8, 10, -1, kept) and own != kept
    assert scheduler.states and scheduler.states.pool.is_known(kept)


def test_next_step_leaves_a_slot_behind_that_is_to_be_kept() -> None:
    scheduler = scheduler_of(4)
    scheduler.add(make_sequence(0, [*range(1, 9)], 9))
    *_, (_, _, kept) = segments(plan_of(scheduler))
    [(_, read, own)] = segments(plan_of(scheduler))
    assert read == kept != own


def test_without_a_spare_slot_nothing_is_kept() -> None:
    scheduler = scheduler_of(2)
    scheduler.add(make_sequence(0, [*range(1, 9)], 20))
    [(_, _, slot)] = segments(plan_of(scheduler))
    for _ in range(12):
        assert segments(plan_of(scheduler)) == [(1, slot, slot)]


def test_hit_goes_on_from_a_snapshot_into_a_slot_of_its_own() -> None:
    scheduler = scheduler_of(6)
    prompt = [*range(1, 11)]
    scheduler.add(make_sequence(0, prompt, 1))
    (_, _, kept), _ = segments(plan_of(scheduler))
    both = [make_sequence(1, prompt, 2), make_sequence(2, prompt, 2)]
    for seq in both:
        scheduler.add(seq)
    first, second = segments(plan_of(scheduler))
    assert (first[1], second[1]) == (kept, kept)
    assert len({kept, first[2], second[2]}) == 3
    assert [seq.num_cached_tokens for seq in both] == [8, 8]


def test_snapshot_is_overwritten_where_no_other_slot_is_left() -> None:
    scheduler = scheduler_of(2, seqs=2)
    assert scheduler.states
    prompt = [*range(1, 11)]
    # As if two had run and one of the slots had become a snapshot.
    first = make_sequence(0, prompt, 1)
    scheduler.states._num_to_come -= 1
    scheduler.add(first)
    (_, _, kept), _ = segments(plan_of(scheduler))
    scheduler.states._num_to_come += 1
    again = make_sequence(1, prompt, 1)
    scheduler.add(again)
    scheduler.add(make_sequence(2, [7, 7, 7], 1))
    found = segments(plan_of(scheduler))
    assert again.num_cached_tokens == 8
    assert found[0] == (2, kept, kept)
    assert len({write for *_, write in found}) == len(found)


def test_figures_count_slots_snapshots_hits_and_evictions() -> None:
    scheduler = scheduler_of(3)
    assert scheduler.states
    prompt = [*range(1, 11)]
    scheduler.add(make_sequence(0, prompt, 1))
    plan_of(scheduler)
    assert scheduler.states.figures == StateFigures(0, 1, 0, 0)
    scheduler.add(make_sequence(1, prompt, 2))
    plan_of(scheduler)
    assert scheduler.states.figures == StateFigures(1, 1, 1, 0)
    plan_of(scheduler)
    for number in (2, 3):
        scheduler.add(make_sequence(number, [number] * 10, 1))
    while scheduler.has_work:
        plan_of(scheduler)
    figures = scheduler.states.figures
    assert (figures.num_in_use, figures.num_hits) == (0, 1) and figures.num_evictions > 0


def test_prefix_without_a_snapshot_is_computed_again() -> None:
    scheduler = scheduler_of(2)
    for number in range(2):
        seq = make_sequence(number, [*range(1, 11)], 1)
        scheduler.add(seq)
        plan_of(scheduler)
        assert seq.num_cached_tokens == 0


def test_newest_snapshot_of_an_answer_replaces_the_one_before() -> None:
    scheduler = scheduler_of(8, seqs=1)
    assert scheduler.states
    seq = make_sequence(0, [1, 2, 3], 40)
    scheduler.add(seq)
    used = set[int]()
    for _ in range(38):
        used |= {write for *_, write in segments(plan_of(scheduler))}
    assert len(used) <= 3, "an answer takes no more, however long"


def test_what_a_fault_has_left_serves_nobody() -> None:
    scheduler = scheduler_of(4)
    assert scheduler.states
    seq = make_sequence(0, [*range(1, 11)], 3)
    scheduler.add(seq)
    plan_of(scheduler)
    assert scheduler.states.holds(seq.block_hashes[1])
    scheduler._prefixes.forget(seq)
    assert not any(map(scheduler.states.holds, seq.block_hashes))
