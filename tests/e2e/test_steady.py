"""What these tests make of a machine that stands still. No servers here."""

import time

import pytest

from tests.e2e import steady
from tests.e2e.server import wait_until
from tests.e2e.steady import NUM_ATTEMPTS, Pulse, steadily


class Played(Pulse):
    """Of a machine that gave no turn for so long."""

    without_turn_s = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.longest_s = self.without_turn_s

    def _beat(self) -> None:
        """Measure nothing."""


@pytest.mark.parametrize(("without_turn_s", "num_tries"), [(0.1, 1), (3.0, NUM_ATTEMPTS)])
def test_failure_counts_unless_the_machine_stood_still(
    monkeypatch: pytest.MonkeyPatch, without_turn_s: float, num_tries: int
) -> None:
    tries: list[int] = []

    def attempt() -> int:
        tries.append(len(tries))
        assert len(tries) > NUM_ATTEMPTS, "too slow"
        return 7

    monkeypatch.setattr(steady, "Pulse", Played)
    monkeypatch.setattr(Played, "without_turn_s", without_turn_s)
    with pytest.raises(AssertionError, match="too slow"):
        steadily(attempt)
    assert len(tries) == num_tries
    tries[:] = range(NUM_ATTEMPTS)
    assert steadily(attempt) == 7


def test_waiting_counts_only_time_in_which_it_had_its_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 0.0
    pauses = iter([1000.0, 0.5, 0.5])

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += next(pauses, 0.5)

    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    monkeypatch.setattr(time, "sleep", sleep)
    wait_until(lambda: now_s >= 1001.0, 5.0, "it comes after the machine stood still")
    with pytest.raises(AssertionError, match="not within 5 s: never"):
        wait_until(lambda: False, 5.0, "never")
    assert now_s < 1010
