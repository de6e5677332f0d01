"""What serving adds to steps, of times that servers were measured at."""

import pytest

from gateway.tuning.served_costs import serving_of

ALONE = {1: 1e-3, 16: 2e-3}


def test_line_goes_through_few_and_many_rows() -> None:
    serving = serving_of([(1, 2.5e-3), (16, 5.0e-3)], ALONE)
    assert serving.token_s == pytest.approx(1e-4)
    assert serving.step_s == pytest.approx(1.4e-3)


def test_one_measurement_is_a_steps() -> None:
    assert serving_of([(1, 2e-3)], ALONE) == (1e-3, 0.0)


def test_tokens_never_give_time_back() -> None:
    """Of many rows less was left than of few: others disturbed the few."""
    assert serving_of([(1, 2e-3), (16, 2.5e-3)], ALONE) == (1e-3, 0.0)
