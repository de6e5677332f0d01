"""Who is silent, and who was stopped."""

import pytest

from gateway.nodes.silence import Silence


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("gateway.nodes.silence.time.monotonic", clock)
    return clock


def run(silence: Silence, clock: Clock, seconds: int) -> None:
    for _ in range(seconds):
        clock.now_s += 1
        silence.beat()


def test_silence_is_over_after_its_time_while_we_run(clock: Clock) -> None:
    silence = Silence(9.0)
    run(silence, clock, 8)
    assert silence.left_s == 1
    run(silence, clock, 1)
    assert silence.left_s == 0
    silence.heard()
    assert silence.left_s == 9


@pytest.mark.parametrize("stopped_s", [4, 10, 600])
def test_time_in_which_we_were_stopped_does_not_count(clock: Clock, stopped_s: int) -> None:
    """Only a silence half as long again as may be was excused, and an agent's not at all: a machine
    that stood still for ten seconds lost its groups."""
    silence = Silence(9.0)
    run(silence, clock, 2)
    clock.now_s += stopped_s
    assert silence.left_s == 7, "whoever looks first"
    run(silence, clock, 6)
    assert silence.left_s == 1
    run(silence, clock, 1)
    assert silence.left_s == 0
