"""The scheduler alone, with a runner that invents tokens."""

from collections.abc import Sequence as ListLike

import pytest

from backend.config.cache_groups import FULL_GROUPS, CacheGroup, cache_groups
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.prefill_budget import PrefillLimit
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from backend.scheduler.state_slots import StateSlots
from backend.step import FAULTY, NO_TOKEN, StepPlan
from backend.wire.messages import FinishReason, SeqOutput, TokenLogprobs
from backend.wire.sampling import SamplingParams

EOS = 0
VOCAB_SIZE = 100_000


def make_scheduler(
    num_blocks: int = 16,
    block_size: int = 4,
    seqs: int = 4,
    budget: int = 16,
    max_len: int = 1024,
    groups: ListLike[CacheGroup] = FULL_GROUPS,
    states: StateSlots | None = None,
) -> Scheduler:
    return Scheduler(
        BlockPool(num_blocks, block_size),
        max_num_seqs=seqs,
        max_num_batched_tokens=budget,
        max_model_len=max_len,
        vocab_size=VOCAB_SIZE,
        eos_token_ids=(EOS,),
        groups=groups,
        states=states,
    )


def make_sequence(
    number: int, prompt: list[int], max_tokens: int = 4, salt: str = "", worker: int = 0
) -> Sequence:
    params = SamplingParams(max_tokens=max_tokens)
    return Sequence((worker, number), list(prompt), len(prompt), params, salt)


def step(scheduler: Scheduler, token: int = 7) -> tuple[StepPlan | None, list[SeqOutput]]:
    plan = scheduler.schedule()
    if plan is None:
        return None, []
    scores = [TokenLogprobs(0.0, 0, [])] * len(plan.logprob_tokens)
    outputs = scheduler.commit(plan, [token] * len(plan.sample_rows), prompt_logprobs=scores)
    scheduler.check()
    return plan, [output for _, output in outputs]


def run(scheduler: Scheduler, steps: int = 10_000) -> list[SeqOutput]:
    outputs: list[SeqOutput] = []
    for _ in range(steps):
        if not scheduler.has_work:
            return outputs
        outputs += step(scheduler)[1]
    raise AssertionError("the scheduler does not come to an end")


def test_prompt_longer_than_the_budget_runs_in_chunks() -> None:
    scheduler = make_scheduler(budget=8)
    scheduler.add(make_sequence(1, list(range(1, 21))))
    sizes = [plan.num_tokens for plan, _ in (step(scheduler) for _ in range(4)) if plan]
    assert sizes == [8, 8, 4, 1]


def test_one_token_sequences_come_before_a_long_prompt() -> None:
    scheduler = make_scheduler(budget=8, num_blocks=32)
    scheduler.add(make_sequence(1, [1, 2], max_tokens=20))
    step(scheduler)
    scheduler.add(make_sequence(2, list(range(1, 41))))
    for _ in range(5):
        plan, outputs = step(scheduler)
        assert plan is not None and plan.num_decodes == 1
        assert plan.num_tokens == 8
        assert outputs[0].seq_id == 1


def test_prompts_keep_to_their_share_only_where_streams_wait() -> None:
    scheduler = make_scheduler(budget=16, num_blocks=64)
    seq = make_sequence(1, list(range(1, 41)))
    scheduler.add(seq)
    plan = scheduler.schedule(PrefillLimit(3))
    assert plan is not None and plan.num_tokens == 16  # nobody waits
    scheduler.commit(plan, [])
    while seq.num_output_tokens == 0:
        step(scheduler)
    scheduler.add(make_sequence(2, list(range(50, 90))))
    plan = scheduler.schedule(PrefillLimit(3))
    assert plan is not None and (plan.num_decodes, plan.num_tokens) == (1, 4)


def test_resumed_sequence_is_recomputed_in_smaller_steps() -> None:
    scheduler = make_scheduler(budget=16, num_blocks=64)
    scheduler.add(make_sequence(1, [1, 2], max_tokens=20))
    step(scheduler)
    resumed = make_sequence(2, list(range(50, 62)), max_tokens=20)
    resumed.num_prompt_tokens = 4
    scheduler.add(resumed)
    sizes = []
    for _ in range(4):
        plan = scheduler.schedule(PrefillLimit(9, 5))
        assert plan is not None
        scheduler.commit(plan, [7] * len(plan.sample_rows))
        sizes.append((plan.num_decodes, plan.num_tokens))
    assert sizes == [(1, 6), (1, 6), (1, 3), (2, 2)]
    scheduler.add(make_sequence(3, list(range(70, 90)), max_tokens=20))
    plan = scheduler.schedule(PrefillLimit(9, 5))
    assert plan is not None and plan.num_tokens == 11


def test_long_resumed_sequence_is_recomputed_in_bounded_steps() -> None:
    scheduler = make_scheduler(budget=64, num_blocks=256)
    scheduler.add(make_sequence(1, [1, 2], max_tokens=20))
    step(scheduler)
    resumed = make_sequence(2, list(range(640)), max_tokens=650)
    resumed.num_prompt_tokens = 4
    scheduler.add(resumed)
    for most, expected in ((30, 13), (10, 10)):
        plan = scheduler.schedule(PrefillLimit(most, 5))
        assert plan is not None and plan.num_tokens == 1 + expected
        scheduler.commit(plan, [7] * len(plan.sample_rows))


def test_sequences_join_and_leave_a_running_batch() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(1, [1, 2, 3], max_tokens=3))
    step(scheduler)
    scheduler.add(make_sequence(2, [4, 5, 6], max_tokens=3))
    plan, _ = step(scheduler)
    assert plan is not None and plan.num_seqs == 2 and [j.row for j in plan.joins] == [1]
    outputs = run(scheduler)
    assert [o.seq_id for o in outputs if o.finish_reason] == [1, 2]


def test_end_of_sequence_stops_unless_ignored() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(1, [1]))
    ignoring = Sequence((0, 2), [1], 1, SamplingParams(max_tokens=2, ignore_eos=True))
    scheduler.add(ignoring)
    _, outputs = step(scheduler, EOS)
    assert [o.finish_reason for o in outputs] == [FinishReason.STOP, None]
    _, outputs = step(scheduler, EOS)
    assert [o.finish_reason for o in outputs] == [FinishReason.LENGTH]


def test_full_prefix_blocks_are_shared_but_for_the_last_token() -> None:
    scheduler = make_scheduler()
    prompt = list(range(1, 9))
    scheduler.add(make_sequence(1, prompt, max_tokens=1))
    run(scheduler)
    scheduler.add(make_sequence(2, prompt, max_tokens=1))
    plan, outputs = step(scheduler)
    assert plan is not None and plan.num_tokens == 4
    assert outputs[0].num_cached_tokens == 4


def test_totals_count_prompts_outputs_and_prefix_hits() -> None:
    scheduler = make_scheduler()
    for number in (1, 2):
        scheduler.add(make_sequence(number, list(range(1, 9)), max_tokens=3))
        run(scheduler)
    assert scheduler.num_prompt_tokens == 8 + 4
    assert scheduler.num_output_tokens == 6
    assert (scheduler.num_prefix_queries, scheduler.num_prefix_hits) == (16, 4)
    scored = SamplingParams(max_tokens=1, prompt_logprobs=0)
    scheduler.add(Sequence((0, 3), list(range(1, 9)), 8, scored))
    schedule = scheduler.schedule()
    assert schedule is not None and schedule.num_tokens == 8
    assert scheduler.num_prefix_queries == 16


def test_other_salts_share_nothing() -> None:
    scheduler = make_scheduler()
    prompt = list(range(1, 13))
    scheduler.add(make_sequence(1, prompt, max_tokens=1))
    run(scheduler)
    scheduler.add(make_sequence(2, prompt, max_tokens=1, salt="tenant"))
    _, outputs = step(scheduler)
    assert outputs[0].num_cached_tokens == 0


def test_generated_tokens_are_cached_for_the_next_turn() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(1, [1, 2, 3], max_tokens=10))
    run(scheduler)
    scheduler.add(make_sequence(2, [1, 2, 3] + [7] * 10 + [9], max_tokens=1))
    _, outputs = step(scheduler)
    assert outputs[0].num_cached_tokens == 12


def test_newest_is_preempted_and_loses_nothing() -> None:
    scheduler = make_scheduler(num_blocks=6)
    for number in (1, 2):
        scheduler.add(make_sequence(number, [number] * 8, max_tokens=12))
    outputs = run(scheduler)
    assert scheduler.num_preemptions > 0
    for number in (1, 2):
        assert sum(len(o.token_ids) for o in outputs if o.seq_id == number) == 12
    finished = [o.seq_id for o in outputs if o.finish_reason]
    assert finished == [1, 2]


def test_sequence_that_can_never_fit_is_refused() -> None:
    scheduler = make_scheduler(num_blocks=4, block_size=4, max_len=100)
    with pytest.raises(ValueError, match="the KV cache holds 16"):
        scheduler.add(make_sequence(1, [1] * 10, max_tokens=8))
    scheduler.add(make_sequence(2, [1] * 10, max_tokens=7))
    with pytest.raises(ValueError, match="exists already"):
        scheduler.add(make_sequence(2, [1]))
    assert len(run(scheduler)) == 7


def test_generation_ends_at_the_models_length() -> None:
    scheduler = make_scheduler(max_len=10)
    scheduler.add(make_sequence(1, [1] * 6, max_tokens=50))
    outputs = run(scheduler)
    assert len(outputs) == 4 and outputs[-1].finish_reason is FinishReason.LENGTH


def test_abort_is_idempotent_and_frees_everything() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(1, [1] * 20))
    step(scheduler)
    assert scheduler.abort((0, 1)) and not scheduler.abort((0, 1))
    assert not scheduler.abort((0, 99))
    scheduler.check()
    assert scheduler.pool.num_free == scheduler.pool.num_blocks and not scheduler.has_work


def test_workers_death_aborts_only_its_sequences() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(1, [1], worker=0))
    scheduler.add(make_sequence(1, [1], worker=1))
    assert scheduler.abort_worker(0) == 1
    assert [o.finish_reason for o in run(scheduler)][-1] is FinishReason.LENGTH


def test_lower_priority_is_served_first_and_preempted_last() -> None:
    scheduler = make_scheduler(seqs=1, num_blocks=6)
    for number, priority in ((1, 5), (2, 0), (3, -1)):
        seq = make_sequence(number, [number] * 4, max_tokens=2)
        seq.priority = priority
        scheduler.add(seq)
    assert [o.seq_id for o in run(scheduler) if o.finish_reason] == [3, 2, 1]


def test_scored_prompt_reads_no_cached_prefix_but_leaves_one() -> None:
    scheduler = make_scheduler()
    prompt = list(range(1, 13))
    params = SamplingParams(max_tokens=0, prompt_logprobs=1)
    for number in (1, 2):
        scheduler.add(Sequence((0, number), list(prompt), len(prompt), params))
        plan, outputs = step(scheduler)
        assert plan is not None and plan.num_tokens == 12 and len(plan.sample_rows) == 0
        assert plan.logprob_targets.tolist() == prompt[1:]
        assert len(outputs[0].prompt_logprobs) == 11 and outputs[0].token_ids == []
        assert outputs[0].finish_reason is FinishReason.LENGTH
    scheduler.add(make_sequence(3, prompt, max_tokens=1))
    assert step(scheduler)[1][0].num_cached_tokens == 8


def test_token_that_no_rule_allows_ends_its_own_sequence_only() -> None:
    scheduler = make_scheduler()
    for number in (1, 2):
        scheduler.add(make_sequence(number, [number]))
    plan = scheduler.schedule()
    assert plan is not None
    (_, failed), (_, fine) = scheduler.commit(plan, [-1, 7])
    assert failed.finish_reason is FinishReason.ERROR and "rules" in failed.error
    assert fine.token_ids == [7] and (0, 1) not in scheduler and (0, 2) in scheduler
    scheduler.check()


@pytest.mark.parametrize("token", [NO_TOKEN, FAULTY])
def test_sequence_without_a_token_ends_in_error(token: int) -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(1, [1, 2, 3]))
    _, [output] = step(scheduler, token)
    assert output.finish_reason is FinishReason.ERROR and output.is_final
    assert not scheduler.has_work
    assert scheduler.pool.num_free == scheduler.pool.num_blocks


def test_blocks_of_a_faulty_sequence_are_not_shared_again() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(1, [1] * 12))
    step(scheduler, FAULTY)
    scheduler.add(make_sequence(2, [1] * 12))
    _, [output] = step(scheduler)
    assert output.num_cached_tokens == 0


def test_resumed_sequence_goes_on_at_its_output_position() -> None:
    scheduler = make_scheduler()
    seq = make_sequence(1, [1, 2, 3], max_tokens=4)
    seq.token_ids += [7, 7]
    scheduler.add(seq)
    plan, [output] = step(scheduler)
    assert plan is not None and plan.sample_positions.tolist() == [2]
    assert output.token_ids == [7] and output.finish_reason is None
    [last] = run(scheduler)
    assert last.finish_reason is FinishReason.LENGTH


def test_resumed_sequence_scores_nothing_again() -> None:
    scheduler = make_scheduler(budget=8)
    params = SamplingParams(max_tokens=1, prompt_logprobs=0)
    seq = Sequence((0, 1), list(range(1, 21)), 20, params, num_prompt_logprobs=1 + 11)
    scheduler.add(seq)
    outputs = run(scheduler)
    assert sum(len(output.prompt_logprobs) for output in outputs) == 19 - 11


def test_sequence_is_new_until_it_has_run_a_step_of_its_own_kind() -> None:
    scheduler = make_scheduler(budget=8)
    scheduler.add(make_sequence(1, list(range(1, 12)), max_tokens=6))
    named = []
    while (plan := scheduler.schedule()) is not None:
        named.append(scheduler.newcomers())
        scheduler.commit(plan, [7] * len(plan.sample_rows))
    # Two chunks of the prompt, and the first step of a single token.
    assert named == [[(0, 1)]] * 3 + [[]] * 4


def test_commit_takes_several_tokens_of_a_sequence() -> None:
    """Those behind the one that ends it are not told, and the next step computes what is left."""
    scheduler = make_scheduler()
    first, second = (
        make_sequence(1, [1, 2, 3], max_tokens=9),
        make_sequence(2, [4, 5], max_tokens=9),
    )
    for seq in (first, second):
        scheduler.add(seq)
    plan = scheduler.schedule()
    assert plan is not None
    outputs = scheduler.commit(plan, [7, 8, 9, 5, EOS, 6], num_tokens=[3, 3])
    told = {output.seq_id: (output.token_ids, output.finish_reason) for _, output in outputs}
    assert told == {1: ([7, 8, 9], None), 2: ([5, EOS], FinishReason.STOP)}
    assert (first.num_computed_tokens, first.num_tokens) == (3, 6)
    plan, [output] = step(scheduler, 10)
    assert plan is not None and plan.input_ids.tolist() == [7, 8, 9]
    assert plan.sample_positions.tolist() == [3] and output.token_ids == [10]


def test_commit_of_several_tokens_ends_at_the_longest_length() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence(1, [1, 2, 3], max_tokens=2))
    plan = scheduler.schedule()
    assert plan is not None
    logprobs = [TokenLogprobs(-1.0, 0, []), TokenLogprobs(-2.0, 0, []), TokenLogprobs(-3.0, 0, [])]
    [(_, output)] = scheduler.commit(plan, [7, 8, 9], logprobs, num_tokens=[3])
    assert (output.token_ids, output.finish_reason) == ([7, 8], FinishReason.LENGTH)
    assert [each.logprob for each in output.logprobs] == [-1.0, -2.0]
    assert not scheduler.has_work and scheduler.num_output_tokens == 2


def test_blocks_that_several_tokens_fill_are_cached() -> None:
    scheduler = make_scheduler(block_size=4)
    scheduler.add(make_sequence(1, [1, 2, 3], max_tokens=7))
    plan = scheduler.schedule()
    assert plan is not None
    scheduler.commit(plan, [4, 5, 6], num_tokens=[3])
    step(scheduler, 7)
    run(scheduler)
    scheduler.add(make_sequence(2, [1, 2, 3, 4, 5], max_tokens=1))
    [output] = run(scheduler)
    assert output.num_cached_tokens == 4


@pytest.mark.parametrize("token_id", [-1, VOCAB_SIZE, 1 << 30])
def test_sequence_with_an_id_that_has_no_row_is_refused(token_id: int) -> None:
    """Such an id raised IndexError in the forward pass, and the group died with all sequences."""
    scheduler = make_scheduler()
    with pytest.raises(ValueError, match=f"token id {token_id} is not in the model's vocabulary"):
        scheduler.add(make_sequence(1, [5, token_id, 6]))
    assert not scheduler.has_work
    scheduler.add(make_sequence(2, [5, VOCAB_SIZE - 1]))


GEMMA = [0 if layer % 6 == 5 else 512 for layer in range(18)]


def most_blocks(groups: ListLike[CacheGroup], num_tokens: int) -> tuple[int, int]:
    """Run a sequence to that length; how many blocks it has at most in a prefill, and at its end.

    Half of it is prompt, in chunks of 512; blocks are of 32 tokens.
    """
    scheduler = make_scheduler(4096, 32, 4, 512, num_tokens, groups)
    prompt = [token % 50_000 for token in range(num_tokens // 2)]
    scheduler.add(make_sequence(1, prompt, num_tokens))
    used = []
    while (plan := scheduler.schedule()) is not None:
        used.append(4096 - scheduler.pool.num_free)
        scheduler.commit(plan, [7] * len(plan.sample_rows))
    assert scheduler.pool.num_free == 4096
    num_chunks = len(prompt) // 512
    return max(used[:num_chunks]), used[-1]


def test_window_models_blocks_are_the_windows() -> None:
    """Fifteen layers that see 512 tokens, three that see all, 8,192 tokens; blocks of three layers.

    1,536 if all were kept. The windows of 512 take 17 blocks each at any length, 32 in a prefill.
    """
    groups = cache_groups(GEMMA, 8192)
    assert most_blocks(groups, 8192) == (128 + 5 * 32, 256 + 5 * 17)
    assert most_blocks([CacheGroup(group.layers) for group in groups], 8192)[1] == 6 * 256


def test_windows_hold_more_of_a_sequence() -> None:
    """What one sequence may have: all its tokens in some layers, a window in others."""
    scheduler = make_scheduler(
        num_blocks=15, block_size=4, budget=8, groups=[CacheGroup((0,)), CacheGroup((1,), 10)]
    )
    with pytest.raises(ValueError, match="the KV cache holds 40"):
        scheduler.add(make_sequence(1, [1] * 10, max_tokens=32))
    scheduler.add(make_sequence(1, [1] * 10, max_tokens=31))
    assert len(run(scheduler)) == 31 and scheduler.num_preemptions == 0


def test_scheduler_without_a_cache_runs_any_number_of_tokens() -> None:
    scheduler = make_scheduler(num_blocks=0, groups=[])
    assert scheduler.credit > 0
    for number in range(3):
        scheduler.add(make_sequence(number, [1] * 10, max_tokens=2))
    assert len(run(scheduler)) == 6
