"""The line that a suite ends with, and the share that decides."""

import pytest

from tests.suites.tally import Tally


def test_tally_counts_what_passed_failed_and_was_left_out() -> None:
    assert str(Tally("a suite", 9, 1, 3)) == "a suite: 9 passed, 1 failed, 3 excluded"


@pytest.mark.parametrize(("passed", "failed", "share"), [(9, 1, 0.9), (0, 2, 0.0), (0, 0, 0.0)])
def test_only_tests_that_ran_count_and_none_is_no_success(
    passed: int, failed: int, share: float
) -> None:
    assert Tally("a suite", passed, failed, excluded=100).share == pytest.approx(share)
