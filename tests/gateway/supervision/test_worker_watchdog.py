"""Workers that answer or do not, on a clock by hand."""

from dataclasses import dataclass, field

from backend.wire.control import ToChild
from gateway.supervision.worker_watchdog import MAX_UNANSWERED, PING_SECONDS, WorkerWatchdog
from tests.gateway.fakes import advance, run_with_manual_clock


@dataclass
class FakeWorker:
    number: int = 0
    answers: bool = True
    is_serving: bool = True
    num_unanswered: int = 0
    kills: int = 0

    def tell(self, message: ToChild) -> None:
        if self.answers:
            self.num_unanswered = 0

    def kill(self) -> None:
        self.kills += 1
        self.is_serving = False


@dataclass
class FakeWatchdog:
    watchdog_s: float = 0.0
    signs: list[float] = field(default_factory=list)

    def alive(self) -> None:
        self.signs.append(0.0)


def after(seconds: float, workers: list[FakeWorker], watchdog_s: float = 20.0) -> FakeWatchdog:
    """Have the workers asked for so long."""

    async def run() -> FakeWatchdog:
        service = FakeWatchdog(watchdog_s)
        watchdog = WorkerWatchdog(workers, service)
        for _ in range(round(seconds)):
            await advance(1.0)
        watchdog.stop()
        await advance(100.0)
        return service

    return run_with_manual_clock(run)


def test_worker_that_does_not_answer_is_killed() -> None:
    stuck, well = FakeWorker(0, answers=False), FakeWorker(1)
    after((MAX_UNANSWERED - 1) * PING_SECONDS, [stuck, well])
    assert stuck.kills == 0
    stuck.num_unanswered = 0
    after((MAX_UNANSWERED + 1) * PING_SECONDS, [stuck, well])
    assert (stuck.kills, well.kills) == (1, 0)


def test_watchdog_is_fed_three_times_a_period_at_least() -> None:
    assert len(after(60, [FakeWorker()], watchdog_s=6.0).signs) >= 30


def test_watchdog_starves_when_no_worker_answers() -> None:
    watchdog = after(25, [FakeWorker(answers=False)], watchdog_s=6.0)
    assert len(watchdog.signs) < 5


def test_one_answering_worker_is_enough() -> None:
    workers = [FakeWorker(0, answers=False), FakeWorker(1)]
    assert len(after(60, workers, watchdog_s=6.0).signs) >= 30


def test_server_that_loads_is_alive() -> None:
    assert len(after(60, [FakeWorker(is_serving=False)], watchdog_s=6.0).signs) >= 30
