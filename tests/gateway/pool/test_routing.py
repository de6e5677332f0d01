"""The step cost of groups, learned from frames, and which has seen a prompt's beginning."""

from dataclasses import dataclass, field

import pytest

from backend.wire.messages import StepOutput, StepTimings, Submit, Totals
from backend.wire.sampling import SamplingParams
from gateway.pool.replica_epoch import ReplicaEpoch
from gateway.pool.replicas import ReplicaPool
from gateway.pool.routing import MAX_PREFIXES, PrefixMemory, Router, StepCost
from tests.gateway.fake_group import FakeGroup


def frame(totals: Totals) -> StepOutput:
    return StepOutput(0, [], StepTimings(), 0, 0, 0, 0, totals)


def test_step_cost_is_that_of_the_frames() -> None:
    step_cost = StepCost()
    prompts = outputs = 0
    forward_s = 0.0
    for step in range(1, 601):
        outputs += 10
        forward_s += 10 * 0.004
        if step % 2:
            prompts += 100
            forward_s += 100 * 0.001
        totals = Totals(
            num_steps=step,
            num_prompt_tokens=prompts,
            num_output_tokens=outputs,
            forward_s=forward_s,
        )
        step_cost.take(frame(totals))
    assert step_cost.row_s == pytest.approx(0.004, rel=0.01)
    assert step_cost.prompt_token_s == pytest.approx(0.001, rel=0.05)
    assert step_cost.first_token_s(100, 10) == pytest.approx(0.14, rel=0.05)


def test_step_cost_survives_frames_without_work_and_a_restart() -> None:
    step_cost = StepCost()
    for totals in (Totals(), Totals(5, 10, 10, forward_s=1.0), Totals(), Totals(1, 0, 1)):
        step_cost.take(frame(totals))
    assert step_cost.row_s > 0 and step_cost.prompt_token_s > 0


async def test_step_cost_is_inherited_by_a_restarted_group() -> None:
    """At a small model's cost it seemed the sooner one, whatever it had to do, to a larger's."""
    pool = ReplicaPool(1000)
    first = FakeGroup(pool, 0, epoch=1)
    cost = pool._dispatcher.connections[0].step_cost
    cost.row_s, cost.prompt_token_s = 0.2, 0.1
    FakeGroup(pool, 0, epoch=2).die()
    first.die()
    assert pool._dispatcher.connections[0].step_cost.first_token_s(3, 2) == pytest.approx(0.7)


def submit(prompt_ids: list[int], salt: str = "") -> Submit:
    return Submit(1, prompt_ids, [], SamplingParams(), cache_salt=salt)


def test_longest_known_beginning_names_the_group() -> None:
    memory = PrefixMemory()
    memory.remember(submit(list(range(40))), 4, ReplicaEpoch(0, 1))
    memory.remember(submit([*range(8), *[9] * 30]), 4, ReplicaEpoch(1, 1))
    assert memory.find(submit(list(range(100))), 4) == (ReplicaEpoch(0, 1), 32)
    assert memory.find(submit([*range(8), 1, 2, 3]), 4) == (ReplicaEpoch(1, 1), 8), (
        "the newest of both"
    )
    assert memory.find(submit([0, 1, 2, 3]), 4) is None, "the last token is computed in any case"
    assert memory.find(submit(list(range(100)), "salt"), 4) is None
    assert memory.find(submit([5] * 40), 4) is None


def test_memory_is_bounded() -> None:
    memory = PrefixMemory()
    for number in range(MAX_PREFIXES + 10):
        memory.remember(submit([number] * 5), 4, ReplicaEpoch(0, 1))
    assert memory.find(submit([3] * 5), 4) is None
    assert memory.find(submit([MAX_PREFIXES] * 5), 4) == (ReplicaEpoch(0, 1), 4)


@dataclass
class Place:
    """A group as routing looks at it."""

    number: int
    num_pending_tokens: int = 0
    num_rows: int = 0
    block_size: int = 4
    step_cost: StepCost = field(default_factory=StepCost)

    @property
    def replica_epoch(self) -> ReplicaEpoch:
        return ReplicaEpoch(self.number, 1)


def test_of_many_groups_one_of_the_best_is_chosen() -> None:
    """Some are looked at: on average the best 3 % of the idle ones."""
    groups = [Place(number, num_pending_tokens=10 * number) for number in range(1000)]
    router = Router()
    chosen = [router.choose(groups, submit([number] * 9)).number for number in range(200)]
    assert len(set(chosen)) > 20, "not the same few for all"
    assert sum(chosen) / len(chosen) < 600


def test_among_many_groups_the_one_with_the_prefix_is_found() -> None:
    groups = [Place(number) for number in range(1000)]
    router = Router()
    prompt = list(range(200))
    owner = router.choose(groups, submit(prompt))

    def find(epoch: ReplicaEpoch) -> Place | None:
        return groups[epoch.replica]

    assert all(router.choose(groups, submit(prompt), find) is owner for _ in range(20))
