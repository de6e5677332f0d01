from itertools import accumulate

import pytest

from backend.placement import memory_speed as module
from backend.placement.memory_speed import PASSES, memory_speed


def test_speed_is_of_the_middle_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes of 1, 2, 3, .. seconds, each between two looks at the clock."""
    steps = [part for seconds in range(1, PASSES + 1) for part in (0.0, float(seconds))]
    clock = accumulate(steps)
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    assert memory_speed(1 << 13) == (1 << 13) / ((PASSES + 1) / 2)


def test_memory_is_read_at_a_plausible_speed() -> None:
    assert 1e8 < memory_speed(1 << 20) < 1e13
