"""The pace of groups, learned from frames, and which has seen a prompt's beginning."""

import asyncio

import pytest

from backend.wire.messages import StepOutput, StepTimings, Submit, Totals
from backend.wire.sampling import SamplingParams
from gateway.pool.replicas import ReplicaPool
from gateway.pool.routing import MAX_PREFIXES, Pace, PrefixMemory
from tests.gateway.fake_group import FakeGroup


def frame(totals: Totals) -> StepOutput:
    return StepOutput(0, [], StepTimings(), 0, 0, 0, 0, totals)


def test_pace_is_that_of_the_frames() -> None:
    pace = Pace()
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
        pace.take(frame(totals))
    assert pace.row_s == pytest.approx(0.004, rel=0.01)
    assert pace.prompt_token_s == pytest.approx(0.001, rel=0.05)
    assert pace.first_token_s(100, 10) == pytest.approx(0.14, rel=0.05)


def test_pace_survives_frames_without_work_and_another_life() -> None:
    pace = Pace()
    for totals in (Totals(), Totals(5, 10, 10, forward_s=1.0), Totals(), Totals(1, 0, 1)):
        pace.take(frame(totals))
    assert pace.row_s > 0 and pace.prompt_token_s > 0


def test_next_life_of_a_group_is_expected_to_be_as_fast_as_the_last() -> None:
    """At a small model's pace it seemed the sooner one, whatever it had to do, to a larger's."""

    async def run() -> None:
        pool = ReplicaPool(1000)
        first = FakeGroup(pool, 0, epoch=1)
        pool._links[0].pace.row_s, pool._links[0].pace.prompt_token_s = 0.2, 0.1
        FakeGroup(pool, 0, epoch=2).die()
        first.die()
        assert pool._links[0].pace.first_token_s(3, 2) == pytest.approx(0.7)

    asyncio.run(run())


def submit(prompt_ids: list[int], salt: str = "") -> Submit:
    return Submit(1, prompt_ids, [], SamplingParams(), cache_salt=salt)


def test_longest_known_beginning_names_the_group() -> None:
    memory = PrefixMemory()
    memory.remember(submit(list(range(40))), 4, (0, 1))
    memory.remember(submit([*range(8), *[9] * 30]), 4, (1, 1))
    assert memory.find(submit(list(range(100))), 4) == ((0, 1), 32)
    assert memory.find(submit([*range(8), 1, 2, 3]), 4) == ((1, 1), 8), "the newest of both"
    assert memory.find(submit([0, 1, 2, 3]), 4) is None, "the last token is computed in any case"
    assert memory.find(submit(list(range(100)), "salt"), 4) is None
    assert memory.find(submit([5] * 40), 4) is None


def test_memory_is_bounded() -> None:
    memory = PrefixMemory()
    for number in range(MAX_PREFIXES + 10):
        memory.remember(submit([number] * 5), 4, (0, 1))
    assert memory.find(submit([3] * 5), 4) is None
    assert memory.find(submit([MAX_PREFIXES] * 5), 4) == ((0, 1), 4)
