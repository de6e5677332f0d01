"""The number of prompt tokens that fit beside streams, from measured steps."""

import pytest

from backend.scheduler.prefill_budget import MIN_PROMPT_TOKENS, Pace
from backend.step import PlannedSequence, StepPlan, build_plan


def plan_of(decodes: int, prompt: int) -> StepPlan:
    sequences = [PlannedSequence([1], 5, [0], row, 0) for row in range(decodes)]
    if prompt:
        sequences.append(PlannedSequence([1] * prompt, 0, [0], decodes, None))
    return build_plan(1, sequences, [], 1024)


def test_nothing_bounds_prompts_before_one_was_measured() -> None:
    pace = Pace(0.1)
    assert pace.prompt_tokens is None
    pace.observe(plan_of(4, 0), 0.02)
    assert pace.prompt_tokens is None


def test_what_the_streams_leave_of_the_target_goes_to_prompts() -> None:
    pace = Pace(0.1)
    for _ in range(50):
        pace.observe(plan_of(4, 0), 0.02)
        pace.observe(plan_of(4, 100), 0.02 + 100 * 0.0005)
    assert pace.prompt_tokens == pytest.approx(160, abs=2)  # 80 ms at half a millisecond each


def test_a_prompt_moves_on_however_slow_the_machine() -> None:
    pace = Pace(0.05)
    pace.observe(plan_of(0, 100), 3.0)
    assert pace.prompt_tokens == MIN_PROMPT_TOKENS


def test_prompts_get_half_the_streams_time_where_the_target_leaves_nothing() -> None:
    pace = Pace(0.1)
    for _ in range(50):
        pace.observe(plan_of(4, 0), 0.2)
        pace.observe(plan_of(4, 100), 0.2 + 100 * 0.0005)
    assert pace.prompt_tokens == pytest.approx(200, abs=4)  # 100 ms at half a millisecond each


def test_one_slow_step_changes_little() -> None:
    pace = Pace(0.1)
    for _ in range(20):
        pace.observe(plan_of(0, 100), 0.05)
    before = pace.prompt_tokens
    pace.observe(plan_of(0, 100), 0.1)
    assert before is not None and pace.prompt_tokens is not None
    assert 0.7 * before < pace.prompt_tokens < before


def test_a_target_of_zero_is_no_bound() -> None:
    pace = Pace(0.0)
    pace.observe(plan_of(0, 100), 3.0)
    assert pace.prompt_tokens is None


def test_what_is_computed_again_takes_as_long_as_the_streams() -> None:
    pace = Pace(0.25)
    for _ in range(50):
        pace.observe(plan_of(4, 0), 0.02)
        pace.observe(plan_of(4, 100), 0.02 + 100 * 0.0005)
    assert pace.recompute_tokens == pytest.approx(40, abs=2)  # 20 ms at half a millisecond each
    assert Pace(0.0).recompute_tokens is None
