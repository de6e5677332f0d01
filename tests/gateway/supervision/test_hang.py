"""When a rank counts as hung, on a clock played by hand."""

import pytest

from backend.wire.local.heartbeat import Heartbeat, Phase
from gateway.supervision.hang import LEAST_EFFORT, LOAD_SECONDS, SILENT_SECONDS, HangWatch, Stall

SECOND = 10**9
START = 1000 * SECOND


def beat(phase: Phase, moved_s: float, *, typical_s: float = 0.0, step: int = 1) -> Heartbeat:
    """A beat that last moved `moved_s` seconds after the start."""
    moved = START + int(moved_s * SECOND)
    return Heartbeat(phase, 1, step, moved, moved, int(typical_s * SECOND))


def first_stall(beats: list[Heartbeat], until_s: float = 1000) -> tuple[float, Stall | None]:
    """Look four times a second from the start on; the time of the first stall."""
    watch = HangWatch(10.0)
    for quarter in range(int(until_s * 4)):
        if stall := watch.look(beats, START + quarter * SECOND // 4):
            return quarter / 4, stall
    return until_s, None


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.STEP, Phase.ADMIT])
def test_rank_without_progress_is_found_within_a_look(phase: Phase) -> None:
    after_s, stall = first_stall([beat(phase, 0.0)])
    assert 10 < after_s <= 10.25
    assert stall is not None and stall.phase is phase and stall.seconds == after_s


def test_rank_that_stopped_first_is_named() -> None:
    _, stall = first_stall([beat(Phase.STEP, 0.9), beat(Phase.IDLE, 0.2), beat(Phase.STEP, 0.9)])
    assert stall is not None and stall.rank == 1


def test_step_of_a_slow_model_may_take_longer() -> None:
    after_s, _ = first_stall([beat(Phase.STEP, 0.0, typical_s=2.0)])
    assert 40 < after_s <= 40.25


def test_loading_rank_may_wait_for_another_that_gets_on() -> None:
    beats = [beat(Phase.WARM_UP, 0.0), beat(Phase.LOAD, 200.0)]
    after_s, stall = first_stall(beats)
    assert 200 + LOAD_SECONDS < after_s <= 200 + LOAD_SECONDS + 0.25
    assert stall is not None and stall.phase is Phase.LOAD


def starts(work_a_second: float) -> float:
    """Seconds until a rank that starts without progress is found, looked at once a second."""
    watch = HangWatch(10.0)
    for seconds in range(1000):
        efforts = [0.0, 5.0 + work_a_second * seconds]
        beats = [beat(Phase.LOAD, 0.0), beat(Phase.WARM_UP, 3.0)]
        if watch.look(beats, START + seconds * SECOND, efforts):
            return seconds
    return 1000


def test_rank_that_starts_and_does_nothing_is_found_early() -> None:
    assert SILENT_SECONDS < starts(0.0) <= SILENT_SECONDS + 5
    assert SILENT_SECONDS < starts(0.9 * LEAST_EFFORT / SILENT_SECONDS) <= SILENT_SECONDS + 5
    assert starts(1.2 * LEAST_EFFORT / SILENT_SECONDS) > LOAD_SECONDS


def test_watch_that_was_stopped_itself_gives_everyone_time() -> None:
    watch = HangWatch(10.0)
    beats = [beat(Phase.IDLE, 0.0)]
    assert watch.look(beats, START) is None
    assert watch.look(beats, START + 60 * SECOND) is None
    for quarter in range(1, 40):
        assert watch.look(beats, START + 60 * SECOND + quarter * SECOND // 4) is None
    stall = watch.look(beats, START + 60 * SECOND + 41 * SECOND // 4)
    assert stall is not None


def test_looks_that_are_only_late_do_not_put_the_verdict_off() -> None:
    watch = HangWatch(10.0)
    beats = [beat(Phase.IDLE, 0.0)]
    stalls = [watch.look(beats, START + 3 * look * SECOND) for look in range(5)]
    assert stalls[:4] == [None] * 4 and stalls[4] is not None


def test_living_group_has_no_stall() -> None:
    watch = HangWatch(10.0)
    for quarter in range(400):
        now_s = quarter / 4
        beats = [beat(Phase.IDLE, int(now_s)), beat(Phase.IDLE, int(now_s))]
        assert watch.look(beats, START + int(now_s * SECOND)) is None
