"""Tenants of different appetite in one group: rows, blocks and steps go to those with few."""

from collections.abc import Iterable

from backend.scheduler.prefill_budget import PrefillLimit
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence, SequenceStatus
from tests.backend.scheduler.test_scheduler import make_scheduler, make_sequence, run, step


def add(
    scheduler: Scheduler,
    tenant: str,
    numbers: Iterable[int],
    *,
    prompt: int = 4,
    max_tokens: int = 12,
    priority: int = 0,
) -> list[Sequence]:
    sequences = []
    for number in numbers:
        seq = make_sequence(number, list(range(1, prompt + 1)), max_tokens, salt=str(number))
        seq.tenant, seq.priority = tenant, priority
        scheduler.add(seq)
        sequences.append(seq)
    return sequences


def running(sequences: Iterable[Sequence]) -> int:
    return sum(seq.status is SequenceStatus.RUNNING for seq in sequences)


def test_newcomer_gets_a_row_of_a_flood_that_holds_all() -> None:
    scheduler = make_scheduler(num_blocks=64, seqs=8, budget=40)
    flood = add(scheduler, "many", range(20))
    step(scheduler)
    assert running(flood) == 8
    (few,) = add(scheduler, "few", [100])
    _, outputs = step(scheduler)
    assert [output.seq_id for output in outputs] == [100]
    assert (running([few]), running(flood)) == (1, 7)
    run(scheduler)
    assert all(seq.num_output_tokens == 12 for seq in [*flood, few])


def test_newcomer_gets_blocks_of_a_flood_that_holds_all() -> None:
    scheduler = make_scheduler(num_blocks=16, seqs=8, budget=80)
    flood = add(scheduler, "many", range(7), prompt=7)
    step(scheduler)
    assert running(flood) == 5  # of seven: the free blocks are promised to those
    (few,) = add(scheduler, "few", [100], prompt=12)
    step(scheduler)
    assert running([few]) == 1 and running(flood) < 5
    run(scheduler)


def test_flood_sits_out_at_most_every_other_step() -> None:
    scheduler = make_scheduler(num_blocks=64, seqs=8, budget=10)
    flood = add(scheduler, "many", range(5), max_tokens=30)
    while any(seq.num_output_tokens == 0 for seq in flood):
        step(scheduler)
    add(scheduler, "few", [100], prompt=40)
    sizes: list[int] = []
    while scheduler.has_work and 100 not in sizes[-1:]:
        plan, outputs = step(scheduler)
        assert plan is not None
        sizes.append(100 if any(o.seq_id == 100 for o in outputs) else plan.num_decodes)
    assert sizes == [0, 5, 0, 5, 100]


def shares(
    scheduler: Scheduler, sequences: list[Sequence], prompt_tokens: int
) -> dict[str, tuple[int, int]]:
    """Run a step; tenant -> its decodes and its prefill tokens."""
    plan = scheduler.schedule(PrefillLimit(prompt_tokens))
    assert plan is not None
    found: dict[str, tuple[int, int]] = {}
    for seq in sequences:
        if count := seq.num_scheduled:
            decodes, tokens = found.get(seq.tenant, (0, 0))
            found[seq.tenant] = (decodes + 1, tokens) if count == 1 else (decodes, tokens + count)
    scheduler.commit(plan, [7] * len(plan.sample_rows))
    scheduler.check()
    return found


def test_prefills_of_a_flood_wait_for_a_newcomers() -> None:
    """Half of a newcomer's steps were filled with prompts of the flood, which had come before, and
    the others were cut to what streams would wait for that were not even in them."""
    scheduler = make_scheduler(num_blocks=256, seqs=16, budget=40)
    sequences = add(scheduler, "many", range(6), max_tokens=30)
    step(scheduler)
    sequences += add(scheduler, "many", range(10, 14), prompt=60, max_tokens=30)
    assert shares(scheduler, sequences, 20) == {"many": (6, 20)}
    sequences += add(scheduler, "few", [100], prompt=75, max_tokens=2)
    assert shares(scheduler, sequences, 20) == {"few": (0, 40)}
    assert shares(scheduler, sequences, 20) == {"many": (6, 0), "few": (0, 20)}
    assert shares(scheduler, sequences, 20) == {"few": (0, 15)}
    assert shares(scheduler, sequences, 20) == {"few": (1, 0), "many": (6, 20)}
    run(scheduler)


def test_tenants_that_want_the_same_leave_each_other_in_peace() -> None:
    scheduler = make_scheduler(num_blocks=64, seqs=6, budget=40)
    first = add(scheduler, "a", range(2))
    step(scheduler)
    second = add(scheduler, "b", range(10, 14))
    plan, _ = step(scheduler)
    assert plan is not None and plan.num_seqs == 6
    run(scheduler)
    assert scheduler.num_preemptions == 0
    assert all(seq.num_output_tokens == 12 for seq in first + second)


def test_free_rows_go_to_whoever_has_fewest() -> None:
    scheduler = make_scheduler(num_blocks=64, seqs=4, budget=40)
    pushy = add(scheduler, "pushy", range(4), priority=-100)
    modest = add(scheduler, "modest", range(10, 13), priority=0)
    modest += add(scheduler, "modest", [13], priority=-1)
    step(scheduler)
    assert running(pushy) == running(modest) == 2
    assert modest[3].status is SequenceStatus.RUNNING
