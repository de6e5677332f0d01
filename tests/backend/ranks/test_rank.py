"""What a rank does before it leads or follows, as far as it needs no process of its own."""

import os

import pytest

from backend.ranks.rank import PROGRESS_INTERVAL_S, StartReporter, num_threads
from backend.settings import EngineSettings
from backend.wire.control import ChildLine, Progress, SupervisorLine, create_control
from backend.wire.local.heartbeat import HeartbeatPage, HeartbeatWriter, Phase


class Clock:
    """Seconds, moved by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_start_reporter_tells_a_few_times_a_second_and_each_end() -> None:
    ours, theirs = create_control()
    line, clock, page = SupervisorLine(ours), Clock(), HeartbeatPage(1, 4, 1)
    heartbeat = HeartbeatWriter(os.dup(page.fd), 0, 1, 1)
    report = StartReporter(ChildLine(theirs), 1, heartbeat, clock)
    report(Phase.LOAD, 0.1)
    report(Phase.LOAD, 0.2)
    clock.now_s += PROGRESS_INTERVAL_S
    report(Phase.LOAD, 0.3)
    report(Phase.LOAD, 1.0)
    assert page.heartbeats()[0].phase is Phase.LOAD
    report(Phase.WARM_UP, 0.0)
    assert page.heartbeats()[0].phase is Phase.WARM_UP
    told = list(iter(line.receive, None))
    assert told == [
        Progress(1, Phase.LOAD, 0.1),
        Progress(1, Phase.LOAD, 0.3),
        Progress(1, Phase.LOAD, 1.0),
        Progress(1, Phase.WARM_UP, 0.0),
    ]
    line.close()
    theirs.close()
    page.close()


def test_num_threads_are_the_cores_over_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(8))
    assert num_threads(EngineSettings()) == 8
    assert num_threads(EngineSettings(tp=2, dp=2)) == 2
    assert num_threads(EngineSettings(tp=16)) == 1
    assert num_threads(EngineSettings(tp=2, threads=3)) == 3
