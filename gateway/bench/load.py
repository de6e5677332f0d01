"""Puts a server under a level of load and condenses what came back into figures.

A level keeps `concurrency` streams open until its requests are done (a closed loop; open_loop.py
has the other kind). Owns the definitions of the figures; knows neither flags nor tables. Called by
`unisono bench serve`, `bench sweep` and `tune`.
"""

import asyncio
import itertools
import math
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from gateway.bench.client import Answer, stream_completion
from gateway.bench.limits import NO_LIMITS, Limits
from gateway.bench.streamed_request import Target
from gateway.bench.watch import SILENT, Watch
from gateway.bench.workload import RequestSource

NAN = float("nan")


class LevelResult(msgspec.Struct, frozen=True):
    """The figures of one level. NaN where nothing was measured.

    A TTFT is from when the request was due, before the connection is opened, to the first event
    with text; an ITL is the gap between two events with text of one stream; a latency is from due
    to the last text. events_per_token below 1 means that events carry several tokens. num_short
    counts streams that ended before their max_tokens. client_cpu_percent is of one core.

    offered_per_s: requests that were due a second, of an open loop alone; concurrency is 0 then.
    late_p99_ms: how long after its time a request was sent, which is counted in its latencies.
    max_in_flight: the most requests that were open at once. good_*: of requests that met the
    limits; NaN without limits.
    """

    concurrency: int
    num_requests: int
    num_errors: int
    first_error: str
    num_short: int
    wall_s: float
    output_tokens: float
    prompt_tokens_per_request: float
    output_tokens_per_s: float
    requests_per_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    itl_p50_ms: float
    itl_p99_ms: float
    events_per_token: float
    client_cpu_percent: float
    offered_per_s: float = 0.0
    ttft_p90_ms: float = NAN
    itl_p90_ms: float = NAN
    latency_p50_ms: float = NAN
    latency_p99_ms: float = NAN
    late_p99_ms: float = 0.0
    max_in_flight: float = 0.0
    good_share: float = NAN
    good_requests_per_s: float = NAN
    good_tokens_per_s: float = NAN


async def warm_up(target: Target, source: RequestSource, concurrency: int) -> None:
    """Let the server meet a batch of this size once, unmeasured."""
    await _streams(target, source.warm_up_bodies(concurrency), concurrency, source.timeout_s)


async def run_level(
    target: Target,
    source: RequestSource,
    concurrency: int,
    *,
    num_requests: int = 0,
    limits: Limits = NO_LIMITS,
    watch: Watch = SILENT,
) -> LevelResult:
    """Load the server with `concurrency` streams at once and return the figures.

    num_requests: 0 for 2 x concurrency, 4 at least.
    """
    num_requests = num_at_level(concurrency, num_requests)
    # Made beforehand: composing prompts is no part of the load.
    bodies = source.bodies(num_requests)
    watch.begins(f"{concurrency} streams", num_requests)
    cpu_s = cpu_seconds_of_client()
    start_s = time.perf_counter()
    answers = await _streams(target, bodies, concurrency, source.timeout_s, watch)
    wall_s = time.perf_counter() - start_s
    return figures(answers, concurrency, wall_s, cpu_seconds_of_client() - cpu_s, limits)


def num_at_level(concurrency: int, num_requests: int) -> int:
    """Return how many requests a level has. num_requests: 0 if nobody says."""
    return num_requests or max(4, 2 * concurrency)


def figures(
    answers: Sequence[Answer],
    concurrency: int,
    wall_s: float,
    cpu_s: float,
    limits: Limits = NO_LIMITS,
    *,
    offered_per_s: float = 0.0,
) -> LevelResult:
    """Condense the answers of one level. wall_s, cpu_s: how long it took, and of our own CPU."""
    good = [answer for answer in answers if not answer.error]
    counts = [answer.num_tokens for answer in good]
    num_events = sum(len(answer.text_times_s) for answer in good)
    ttfts = [a.text_times_s[0] - a.due_s for a in good if a.text_times_s]
    latencies = [a.text_times_s[-1] - a.due_s for a in good if a.text_times_s]
    itls = [gap for answer in good for gap in _gaps(answer.text_times_s)]
    prompts = [a.num_prompt_tokens for a in good if a.num_prompt_tokens is not None]
    in_time = [answer for answer in good if limits.are_met_by(answer)]
    return LevelResult(
        concurrency=concurrency,
        num_requests=len(answers),
        num_errors=len(answers) - len(good),
        first_error=next((answer.error for answer in answers if answer.error), ""),
        num_short=sum(answer.num_tokens < answer.max_tokens for answer in good),
        wall_s=wall_s,
        output_tokens=float(sum(counts)),
        prompt_tokens_per_request=statistics.fmean(prompts) if prompts else NAN,
        output_tokens_per_s=sum(counts) / wall_s,
        requests_per_s=len(good) / wall_s,
        ttft_p50_ms=percentile(ttfts, 50) * 1e3,
        ttft_p99_ms=percentile(ttfts, 99) * 1e3,
        itl_p50_ms=percentile(itls, 50) * 1e3,
        itl_p99_ms=percentile(itls, 99) * 1e3,
        events_per_token=num_events / sum(counts) if any(counts) else NAN,
        client_cpu_percent=100 * cpu_s / wall_s,
        offered_per_s=offered_per_s,
        ttft_p90_ms=percentile(ttfts, 90) * 1e3,
        itl_p90_ms=percentile(itls, 90) * 1e3,
        latency_p50_ms=percentile(latencies, 50) * 1e3,
        latency_p99_ms=percentile(latencies, 99) * 1e3,
        late_p99_ms=percentile((a.started_s - a.due_s for a in answers), 99) * 1e3,
        max_in_flight=float(_most_at_once(answers)),
        **_goodput(in_time, len(answers), wall_s) if limits.are_set else {},
    )


def _goodput(in_time: Sequence[Answer], num_requests: int, wall_s: float) -> dict[str, float]:
    """Return the good_ figures: a request that failed or came late adds nothing."""
    return {
        "good_share": len(in_time) / num_requests if num_requests else NAN,
        "good_requests_per_s": len(in_time) / wall_s,
        "good_tokens_per_s": sum(answer.num_tokens for answer in in_time) / wall_s,
    }


def median_of(results: Sequence[LevelResult]) -> LevelResult:
    """Combine the rounds of one level: medians of figures, sums of failures."""
    medians: dict[str, Any] = {
        name: _median([getattr(result, name) for result in results])
        for name in LevelResult.__struct_fields__
        if isinstance(getattr(results[0], name), float)
    }
    return msgspec.structs.replace(
        results[0],
        num_errors=sum(result.num_errors for result in results),
        num_short=sum(result.num_short for result in results),
        first_error=next((result.first_error for result in results if result.first_error), ""),
        **medians,
    )


def _median(values: Sequence[float]) -> float:
    """Return the median of what was measured: NaN has no place in an order."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else NAN


async def run_rounds(
    target: Target,
    source: RequestSource,
    levels: Sequence[int],
    num_rounds: int,
    *,
    num_requests: int = 0,
    limits: Limits = NO_LIMITS,
    watch: Watch = SILENT,
    report: Callable[[int, LevelResult], None] = lambda round_, result: None,
) -> dict[int, list[LevelResult]]:
    """Measure all levels, once a round, so that a slow minute of the machine meets each of them."""
    results: dict[int, list[LevelResult]] = {level: [] for level in levels}
    for round_ in range(num_rounds):
        for level in results:
            if round_ == 0:
                await warm_up(target, source, level)
            result = await run_level(
                target, source, level, num_requests=num_requests, limits=limits, watch=watch
            )
            results[level].append(result)
            report(round_, result)
    return results


async def _streams(
    target: Target,
    bodies: Sequence[dict[str, Any]],
    concurrency: int,
    timeout_s: float,
    watch: Watch = SILENT,
) -> list[Answer]:
    waiting = iter(bodies)
    answers: list[Answer] = []

    async def client() -> None:
        for body in waiting:
            answers.append(await stream_completion(target, body, timeout_s))
            watch.answered(answers[-1].num_tokens)

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return answers


def percentile(values: Iterable[float], percent: float) -> float:
    """Interpolate linearly between the two nearest values; NaN if there are none."""
    ordered = sorted(values)
    if not ordered:
        return NAN
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def _gaps(times_s: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times_s)]


def _most_at_once(answers: Iterable[Answer]) -> int:
    """The most answers that were under way at the same time."""
    turns = [(answer.started_s, 1) for answer in answers]
    turns += [(answer.ended_s, -1) for answer in answers]
    return max(itertools.accumulate(change for _, change in sorted(turns)), default=0)


def cpu_seconds_of_client() -> float:
    """Return the CPU time that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
