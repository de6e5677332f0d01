"""The scheduler a step ahead of the tokens: whatever comes of them, nothing is lost or mixed up."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence, SequenceStatus
from backend.step import FAULTY, StepPlan
from backend.wire.messages import FinishReason, SeqOutput, TokenLogprobs
from backend.wire.sampling import SamplingParams
from tests.backend.scheduler.test_scheduler import EOS, make_scheduler, make_sequence
from tests.backend.scheduler.test_scheduler_machine import SchedulerMachine


class AheadMachine(SchedulerMachine):
    """As the other, with one step's tokens still to come when the next one is planned."""

    def begin(self) -> None:
        if not hasattr(self, "newest"):
            self.newest: dict[int, int] = {}  # what was drawn for each row
            self.flying: tuple[StepPlan, list[int]] | None = None

    @precondition(lambda self: self.scheduler.has_work)
    @rule(steps=st.integers(1, 5), eos=st.booleans(), most=st.booleans())
    def step(self, steps: int, eos: bool, most: bool) -> None:
        """most: whether steps are run ahead of; else each is resolved before the next."""
        self.begin()
        for _ in range(steps):
            plan = self.scheduler.schedule()
            if plan is None:
                assert self.flying or not self.scheduler.has_work
                self.resolve()
                continue
            tokens = self.launch(plan, eos)
            self.resolve()
            self.scheduler.advance(plan)
            self.flying = plan, tokens
            if not most:
                self.resolve()

    def launch(self, plan: StepPlan, eos: bool) -> list[int]:
        """Run the plan as a device would, and draw."""
        sequences = [seq for part in self.scheduler._selection for seq in part]
        starts = plan.query_starts.tolist()
        for s, seq in enumerate(sequences):
            ids = [
                self.newest[-1 - i] if i < 0 else i
                for i in plan.input_ids[starts[s] : starts[s + 1]]
            ]
            first = seq.num_computed_tokens
            assert ids == self.cache.tokens(seq)[first : first + len(ids)], "another's token"
        self.cache.run(plan, sequences)
        if self.scheduler.states:
            self.cache.run_states(plan, sequences)
        for seq in self.added.values():
            self.cache.check_room(seq, self.scheduler)
        tokens = [
            EOS if eos and i == 0 else next(self.next_token) for i in range(len(plan.sample_rows))
        ]
        self.next_drawn = dict(zip(self.scheduler.sampled, tokens, strict=True))
        self.newest |= zip(plan.sample_rows.tolist(), tokens, strict=True)
        return tokens

    def resolve(self) -> None:
        if self.flying:
            plan, tokens = self.flying
            scores = [TokenLogprobs(token, 0, []) for token in plan.logprob_targets.tolist()]
            for worker, output in self.scheduler.resolve(tokens, (), scores):
                self.take(self.added[worker, output.seq_id], output)
            self.flying = None
        self.cache.drawn = getattr(self, "next_drawn", {})

    def take(self, seq: Sequence, output: SeqOutput) -> None:
        assert not (output.prompt_logprobs and self.received[seq.key]), "scores come first"
        self.received[seq.key] += output.token_ids
        self.scored[seq.key] += [int(score.logprob) for score in output.prompt_logprobs]
        if output.finish_reason and seq.params.prompt_logprobs is not None:
            assert self.scored[seq.key] == seq.token_ids[1 : seq.num_prompt_tokens]

    @invariant()
    def nothing_is_lost(self) -> None:
        for key, seq in self.added.items():
            known = [token for token in seq.token_ids[seq.num_prompt_tokens :] if token >= 0]
            assert known == self.received[key]

    def teardown(self) -> None:
        if hasattr(self, "scheduler"):
            self.begin()
            self.resolve()
        super().teardown()


TestAheadMachine = AheadMachine.TestCase
TestAheadMachine.settings = settings(stateful_step_count=30)


def start(scheduler: Scheduler, *sequences: Sequence) -> StepPlan:
    """Plan the first step of some sequences, and take it for run."""
    for seq in sequences:
        scheduler.add(seq)
    plan = scheduler.schedule()
    assert plan is not None
    scheduler.advance(plan)
    return plan


def test_next_step_names_rows_for_tokens_to_come() -> None:
    scheduler, seqs = make_scheduler(), [make_sequence(n, [1, 2], 9) for n in range(2)]
    first = start(scheduler, *seqs)
    plan = scheduler.schedule()
    assert plan is not None
    assert plan.input_ids.tolist() == [-1 - row for row in first.sample_rows]
    assert plan.sample_positions.tolist() == [1, 1]
    scheduler.resolve([5, 6])
    assert [seq.token_ids for seq in seqs] == [[1, 2, 5], [1, 2, 6]]


def test_extra_token_of_a_sequence_that_ended_is_dropped() -> None:
    scheduler, seq = make_scheduler(), make_sequence(0, [1, 2], 9)
    start(scheduler, seq)
    plan = scheduler.schedule()
    assert plan is not None and plan.num_tokens == 1
    [(_, output)] = scheduler.resolve([EOS])
    assert output.token_ids == [EOS] and output.finish_reason is FinishReason.STOP
    scheduler.advance(plan)
    assert scheduler.resolve([7]) == [] and seq.token_ids == [1, 2, EOS]
    assert not scheduler.has_work and scheduler.pool.num_free == 16


def test_last_token_by_length_gives_back_all_at_once() -> None:
    scheduler, seq = make_scheduler(), make_sequence(0, [1, 2], 1)
    start(scheduler, seq)
    assert scheduler.pool.num_free == 16 and seq.status is SequenceStatus.FINISHED
    assert scheduler.has_work and scheduler.schedule() is None
    [(_, output)] = scheduler.resolve([7])
    assert output.finish_reason is FinishReason.LENGTH and not scheduler.has_work


def test_abort_of_a_step_taken_for_run_gives_no_output() -> None:
    for max_tokens in (1, 9):
        scheduler, seq = make_scheduler(), make_sequence(0, [1, 2], max_tokens)
        start(scheduler, seq)
        assert scheduler.abort(seq.key) and not scheduler.has_work
        assert scheduler.resolve([7]) == [] and scheduler.pool.num_free == 16


def test_fault_found_late_ends_the_sequence_alone() -> None:
    scheduler, seqs = make_scheduler(), [make_sequence(n, [1 + n, 2], 9) for n in range(2)]
    start(scheduler, *seqs)
    plan = scheduler.schedule()
    assert plan is not None
    outputs = dict(
        (output.seq_id, output.finish_reason) for _, output in scheduler.resolve([FAULTY, 6])
    )
    assert outputs == {0: FinishReason.ERROR, 1: None}
    scheduler.advance(plan)
    [(_, output)] = scheduler.resolve([7, 8])
    assert output.token_ids == [8] and seqs[1].token_ids == [2, 2, 6, 8]


def test_prompt_that_is_only_scored_ends_with_its_scores() -> None:
    scheduler, seq = make_scheduler(), make_sequence(0, [1, 2, 3])
    seq.params = SamplingParams(max_tokens=0, prompt_logprobs=0)
    start(scheduler, seq)
    assert scheduler.schedule() is None
    scores = [TokenLogprobs(-1.0, 0, [])] * 2
    [(_, output)] = scheduler.resolve([], (), scores)
    assert output.finish_reason is FinishReason.LENGTH and len(output.prompt_logprobs) == 2


def test_step_is_not_advanced_before_the_last_is_resolved() -> None:
    scheduler = make_scheduler()
    start(scheduler, make_sequence(0, [1, 2], 9))
    plan = scheduler.schedule()
    assert plan is not None
    with pytest.raises(AssertionError, match="not resolved"):
        scheduler.advance(plan)


def test_sequence_without_its_newest_token_is_not_started_again() -> None:
    """Its history goes to the ranks when it joins, and its prefix is looked for."""
    scheduler, seq = make_scheduler(), make_sequence(0, [1, 2], 9)
    scheduler.add(seq)
    seq.token_ids.append(-1)
    assert scheduler.schedule() is None
    seq.token_ids[-1] = 5
    assert scheduler.schedule() is not None
