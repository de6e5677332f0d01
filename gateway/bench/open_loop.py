"""An open loop: requests come at their times, whether or not those before them are answered.

A server that falls behind is not asked less, as it would be by clients that wait: each latency
counts from when the request was due, so nothing of a stall is left out ("coordinated omission").
Knows neither flags nor tables. Called by gateway/commands/bench.py.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gateway.bench.client import Answer, stream_completion
from gateway.bench.limits import NO_LIMITS, Limits
from gateway.bench.load import LevelResult, cpu_seconds_of_client, figures, warm_up
from gateway.bench.streamed_request import Target
from gateway.bench.watch import SILENT, Watch
from gateway.bench.workload import RequestSource

# A batch for the server to meet before anything is measured.
_WARM_UP_STREAMS = 8
# So few requests say little; a low rate takes longer than the set seconds for it.
MIN_REQUESTS = 10


def poisson_times(rate: float, num_requests: int, rng: random.Random) -> list[float]:
    """Return when requests of a Poisson process come, in seconds from its beginning, ascending.

    Given their number, such times are independent and uniform: so the rate is kept exactly.
    """
    seconds = num_requests / rate
    return sorted(rng.uniform(0, seconds) for _ in range(num_requests))


async def run_schedule(
    target: Target,
    bodies: Sequence[dict[str, Any]],
    times_s: Sequence[float],
    timeout_s: float,
    watch: Watch = SILENT,
) -> list[Answer]:
    """Send each body at its time, seconds from now, and return the answers in that order."""
    begin_s = time.perf_counter()

    async def send(body: dict[str, Any], due_s: float) -> Answer:
        answer = await stream_completion(target, body, timeout_s, due_s=due_s)
        watch.answered(answer.num_tokens)
        return answer

    tasks = []
    for body, time_s in zip(bodies, times_s, strict=True):
        if (left_s := begin_s + time_s - time.perf_counter()) > 0:
            await asyncio.sleep(left_s)
        tasks.append(asyncio.create_task(send(body, begin_s + time_s)))
    return list(await asyncio.gather(*tasks))


async def run_times(
    target: Target,
    source: RequestSource,
    times_s: Sequence[float],
    *,
    limits: Limits = NO_LIMITS,
    watch: Watch = SILENT,
    label: str = "",
) -> LevelResult:
    """Load the server with requests at these times; the wall time goes on to the last answer."""
    bodies = source.bodies(len(times_s))
    span_s = times_s[-1] if times_s else 0.0
    watch.begins(label, len(times_s))
    cpu_s = cpu_seconds_of_client()
    start_s = time.perf_counter()
    answers = await run_schedule(target, bodies, times_s, source.timeout_s, watch)
    wall_s = time.perf_counter() - start_s
    cpu_s = cpu_seconds_of_client() - cpu_s
    offered = len(times_s) / span_s if span_s else float(len(times_s))
    return figures(answers, 0, wall_s, cpu_s, limits, offered_per_s=offered)


async def run_rates(
    target: Target,
    source: RequestSource,
    rates: Sequence[float],
    num_rounds: int,
    *,
    seconds: float,
    num_requests: int = 0,
    seed: int = 0,
    limits: Limits = NO_LIMITS,
    watch: Watch = SILENT,
    report: Callable[[int, LevelResult], None] = lambda round_, result: None,
) -> dict[float, list[LevelResult]]:
    """Measure Poisson arrivals at each rate, once a round; rounds have times of their own.

    num_requests: of each rate; 0 for as many as come in so many seconds, MIN_REQUESTS at least.
    """
    results: dict[float, list[LevelResult]] = {rate: [] for rate in rates}
    await warm_up(target, source, _WARM_UP_STREAMS)
    for round_ in range(num_rounds):
        for rate, rounds in results.items():
            count = num_at_rate(rate, seconds, num_requests)
            times_s = poisson_times(rate, count, random.Random(f"{seed} {round_} {rate}"))
            result = await run_times(
                target, source, times_s, limits=limits, watch=watch, label=f"{rate:g} requests/s"
            )
            rounds.append(_at_rate(result, rate))
            report(round_, rounds[-1])
    return results


async def replay(
    target: Target,
    source: RequestSource,
    times_s: Sequence[float],
    num_rounds: int,
    *,
    limits: Limits = NO_LIMITS,
    watch: Watch = SILENT,
    report: Callable[[int, LevelResult], None] = lambda round_, result: None,
) -> list[LevelResult]:
    """Send the requests of a trace at its own times, once a round."""
    await warm_up(target, source, _WARM_UP_STREAMS)
    results = []
    for round_ in range(num_rounds):
        result = await run_times(
            target, source, times_s, limits=limits, watch=watch, label="the trace"
        )
        results.append(result)
        report(round_, result)
    return results


def num_at_rate(rate: float, seconds: float, num_requests: int) -> int:
    """Return how many requests come at a rate. num_requests: 0 if nobody says."""
    return num_requests or max(MIN_REQUESTS, round(rate * seconds))


def _at_rate(result: LevelResult, rate: float) -> LevelResult:
    """The same figures, known by the rate that was asked for."""
    return msgspec.structs.replace(result, offered_per_s=rate)
