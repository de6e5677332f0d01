"""How many prefill tokens fit beside decodes, from measured steps."""

import pytest

from backend.scheduler.prefill_budget import MIN_PREFILL_TOKENS, PrefillBudget, PrefillLimit
from backend.step import PlannedSequence, StepPlan, build_plan


def plan_of(decodes: int, prompt: int) -> StepPlan:
    sequences = [PlannedSequence([1], 5, [0], row, 0) for row in range(decodes)]
    if prompt:
        sequences.append(PlannedSequence([1] * prompt, 0, [0], decodes, None))
    return build_plan(1, sequences, [], 1024)


def test_prefills_have_no_limit_before_one_was_measured() -> None:
    budget = PrefillBudget(0.1)
    assert budget.limit.usual is None
    budget.observe(plan_of(4, 0), 0.02)
    assert budget.limit.usual is None


def test_prefills_get_what_decodes_leave_of_the_target() -> None:
    budget = PrefillBudget(0.1)
    for _ in range(50):
        budget.observe(plan_of(4, 0), 0.02)
        budget.observe(plan_of(4, 100), 0.02 + 100 * 0.0005)
    assert budget.limit.usual == pytest.approx(160, abs=2)  # 80 ms at half a millisecond each


def test_prefills_move_on_however_slow_the_machine() -> None:
    budget = PrefillBudget(0.05)
    budget.observe(plan_of(0, 100), 3.0)
    assert budget.limit.usual == MIN_PREFILL_TOKENS


def test_prefills_get_half_of_decodes_time_where_nothing_is_left() -> None:
    budget = PrefillBudget(0.1)
    for _ in range(50):
        budget.observe(plan_of(4, 0), 0.2)
        budget.observe(plan_of(4, 100), 0.2 + 100 * 0.0005)
    assert budget.limit.usual == pytest.approx(200, abs=4)  # 100 ms at half a millisecond each


def test_one_slow_step_changes_little() -> None:
    budget = PrefillBudget(0.1)
    for _ in range(20):
        budget.observe(plan_of(0, 100), 0.05)
    before = budget.limit.usual
    budget.observe(plan_of(0, 100), 0.1)
    assert before is not None and budget.limit.usual is not None
    assert 0.7 * before < budget.limit.usual < before


def test_target_of_zero_is_no_limit() -> None:
    budget = PrefillBudget(0.0)
    budget.observe(plan_of(0, 100), 3.0)
    assert budget.limit.usual is None


def test_recomputation_takes_as_long_as_decodes() -> None:
    budget = PrefillBudget(0.25)
    for _ in range(50):
        budget.observe(plan_of(4, 0), 0.02)
        budget.observe(plan_of(4, 100), 0.02 + 100 * 0.0005)
    assert budget.limit.recompute == pytest.approx(40, abs=2)  # 20 ms at half a millisecond each
    assert PrefillBudget(0.0).limit == PrefillLimit()
