"""Requests of an open loop come at their times, and their waiting counts in full."""

import asyncio
import itertools
import json
import random

import pytest

from gateway.bench.limits import Limits
from gateway.bench.load import LevelResult
from gateway.bench.open_loop import num_at_rate, poisson_times, replay, run_rates, run_schedule
from gateway.bench.streamed_request import Target
from gateway.bench.workload import Workload
from tests.gateway.bench.fake_server import FakeServer, against


def test_poisson_times_keep_the_rate_and_vary() -> None:
    times_s = poisson_times(50, 5000, random.Random(1))
    assert times_s == sorted(times_s)
    assert 0 <= times_s[0] and 99 < times_s[-1] <= 100
    gaps = [later - earlier for earlier, later in itertools.pairwise(times_s)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(1 / 50, rel=0.01)
    # Of an exponential distribution the deviation is the mean, and 1/e of the values lie above.
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.06)
    assert sum(gap > mean for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02)


def test_requests_do_not_wait_for_answers() -> None:
    """A server that answers nobody before all have asked: clients that wait would hang."""
    server = FakeServer()
    complete = server.complete
    all_asked = asyncio.Event()

    async def stalled(body: dict[str, object], writer: asyncio.StreamWriter) -> None:
        if len(server.bodies) == 5:
            all_asked.set()
        await all_asked.wait()
        await complete(body, writer)

    server.complete = stalled  # type: ignore[method-assign]
    bodies = Workload("fake", max_tokens=2).bodies(5)
    answers = against(server, lambda target: run_schedule(target, bodies, [0.0] * 5, 30))
    assert [answer.error for answer in answers] == [""] * 5


def test_latency_counts_from_when_a_request_was_due() -> None:
    """What a stall keeps from being sent in time is no less late for that."""
    bodies = Workload("fake", max_tokens=2).bodies(2)
    answers = against(FakeServer(), lambda target: run_schedule(target, bodies, [-7.0, 0.0], 30))
    late, punctual = (answer.text_times_s[0] - answer.due_s for answer in answers)
    assert 7 <= late < 7 + 5
    assert punctual < 5
    assert answers[0].started_s - answers[0].due_s >= 7


def test_failures_of_an_open_loop_are_counted_and_never_good() -> None:
    server = FakeServer(fail=b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")

    async def use(target: Target) -> list[LevelResult]:
        return await replay(
            target, Workload("fake"), [0.0, 0.0, 0.01], 1, limits=Limits(ttft_ms=1000)
        )

    [result] = against(server, use)
    assert (result.num_requests, result.num_errors, result.good_share) == (3, 3, 0.0)
    assert result.first_error.startswith("HTTP 429")


def test_rates_are_measured_in_turns_with_prompts_of_their_own() -> None:
    server = FakeServer()
    order: list[tuple[int, float]] = []

    async def use(target: Target) -> dict[float, list[LevelResult]]:
        return await run_rates(
            target,
            Workload("fake", max_tokens=3),
            [400.0, 800.0],
            2,
            seconds=0.01,
            num_requests=6,
            report=lambda round_, result: order.append((round_, result.offered_per_s)),
        )

    results = against(server, use)
    assert order == [(0, 400), (0, 800), (1, 400), (1, 800)]
    assert [[r.num_requests for r in rounds] for rounds in results.values()] == [[6, 6], [6, 6]]
    assert all(r.concurrency == 0 and r.max_in_flight >= 1 for r in results[400.0])
    prompts = [json.dumps(body["prompt"]) for body in server.bodies]
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize(
    ("rate", "seconds", "given", "count"),
    [(2.0, 30.0, 0, 60), (0.1, 30.0, 0, 10), (2.0, 30.0, 5, 5)],
)
def test_number_of_requests_follows_from_the_rate(
    rate: float, seconds: float, given: int, count: int
) -> None:
    assert num_at_rate(rate, seconds, given) == count
