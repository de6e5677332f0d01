"""Steps of several cohorts under way at a time: whatever comes of them, nothing is mixed up."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from backend.step import StepPlan
from backend.wire.messages import TokenLogprobs
from tests.backend.scheduler.test_scheduler import make_scheduler, make_sequence
from tests.backend.scheduler.test_step_ahead import AheadMachine

NUM_STAGES = 3


def staged(scheduler: Scheduler, num_stages: int = NUM_STAGES) -> Scheduler:
    scheduler._num_stages = scheduler._policy._num_stages = num_stages
    return scheduler


class StagedMachine(AheadMachine):
    """As the other, but with three steps under way, none of whose tokens another step needs."""

    def begin(self) -> None:
        if not hasattr(self, "steps"):
            staged(self.scheduler)
            self.newest: dict[int, int] = {}
            self.steps: deque[tuple[StepPlan, list[int], dict[Sequence, int]]] = deque()

    @precondition(lambda self: self.scheduler.has_work)
    @rule(steps=st.integers(1, 5), eos=st.booleans(), most=st.booleans())
    def step(self, steps: int, eos: bool, most: bool) -> None:
        """most: whether as many steps are under way as may be; else each lands before the next."""
        self.begin()
        for _ in range(steps):
            plan = self.scheduler.schedule()
            if plan is None:
                assert self.steps or not self.scheduler.has_work
                self.resolve()
                continue
            assert plan.input_ids.min() >= 0, "a token that is not known"
            tokens = self.launch(plan, eos)
            self.scheduler.advance(plan)
            self.steps.append((plan, tokens, self.next_drawn))
            if len(self.steps) == NUM_STAGES or not most:
                self.resolve()

    def resolve(self) -> None:
        if self.steps:
            plan, tokens, _ = self.steps.popleft()
            scores = [TokenLogprobs(token, 0, []) for token in plan.logprob_targets.tolist()]
            for worker, output in self.scheduler.resolve(tokens, (), scores):
                self.take(self.added[worker, output.seq_id], output)
        self.cache.drawn = {}
        for _, _, drawn in self.steps:
            self.cache.drawn |= drawn

    @invariant()
    def no_sequence_waits_for_two_tokens(self) -> None:
        for seq in self.added.values():
            assert sum(token < 0 for token in seq.token_ids) <= 1

    def teardown(self) -> None:
        if hasattr(self, "scheduler"):
            self.begin()
            while self.steps:
                self.resolve()
        super().teardown()


TestStagedMachine = StagedMachine.TestCase
TestStagedMachine.settings = settings(stateful_step_count=25)


def test_decodes_are_shared_out_over_the_stages() -> None:
    scheduler = staged(make_scheduler(seqs=4), 2)
    for number in range(4):
        scheduler.add(make_sequence(number, [1, 2], 9))
    plan = scheduler.schedule()
    assert plan is not None and plan.num_seqs == 4
    scheduler.advance(plan)
    assert scheduler.schedule() is None, "all wait for their tokens"
    scheduler.resolve([5] * 4)
    first = scheduler.schedule()
    assert first is not None
    scheduler.advance(first)
    second = scheduler.schedule()
    assert second is not None
    scheduler.advance(second)
    assert (first.num_seqs, second.num_seqs) == (2, 2)
    assert not set(first.sample_rows.tolist()) & set(second.sample_rows.tolist())


def test_chunks_of_a_prompt_follow_each_other_unread() -> None:
    scheduler = staged(make_scheduler(budget=5, seqs=4), 2)
    seq = make_sequence(0, list(range(1, 9)), 2)
    scheduler.add(seq)
    chunks = []
    for _ in range(2):
        plan = scheduler.schedule()
        assert plan is not None
        scheduler.advance(plan)
        chunks.append(plan)
    assert [plan.num_tokens for plan in chunks] == [5, 3]
    assert scheduler.resolve([]) == []
    [(_, output)] = scheduler.resolve([7])
    assert output.token_ids == [7]
