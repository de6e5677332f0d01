"""Runs of sequences through a tiny engine that tell how likely each token was, to the last bit."""

from collections.abc import Callable
from random import Random

from backend.engine.engine import Engine
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import SeqKey, Sequence
from tests.backend.models.tiny_engine import sequence

Answer = list[tuple[int, float]]
"""Tokens of an answer, each with its log-probability."""
BLOCK_SIZE = 16
BUDGET = 64


def run_scored(
    engine: Engine,
    scheduler: Scheduler,
    sequences: list[Sequence],
    between: Callable[[Scheduler], None] = lambda scheduler: None,
) -> dict[int, Answer]:
    """Run sequences together to their end; seq_id -> answer. between: called before each step."""
    for seq in sequences:
        scheduler.add(seq)
    answers: dict[int, Answer] = {seq.key[1]: [] for seq in sequences}
    while scheduler.has_work:
        between(scheduler)
        plan = scheduler.schedule()
        assert plan is not None
        result = engine.runner.run(plan)
        for _, output in scheduler.commit(plan, result.token_ids, result.logprobs):
            scores = [each.logprob for each in output.logprobs]
            answers[output.seq_id] += zip(output.token_ids, scores, strict=True)
        scheduler.check()
    pools = [scheduler.pool, *([scheduler.states.pool] if scheduler.states else [])]
    assert all(pool.num_free == pool.num_blocks for pool in pools), "something was not given back"
    return answers


def scored(number: int, prompt: list[int], num_tokens: int) -> Sequence:
    """Return a greedy sequence whose tokens are told with their log-probabilities."""
    return sequence(
        number, prompt, temperature=0.0, max_tokens=num_tokens, ignore_eos=True, logprobs=1
    )


class Preemption:
    """Throws running sequences out before steps, each once for as many tokens as it then has."""

    def __init__(self) -> None:
        self._random = Random(5)
        self._seen: set[tuple[SeqKey, int, int]] = set()

    def __call__(self, scheduler: Scheduler) -> None:
        for seq in list(scheduler._policy.running):
            place = seq.key, seq.num_tokens, seq.num_computed_tokens
            if place not in self._seen and self._random.random() < 0.8:
                self._seen.add(place)
                scheduler._policy._preempt(seq)
