"""Puts a server under a level of load and condenses what came back into figures.

A level keeps `concurrency` streams open until its requests are done. Owns the
definitions of the figures; knows neither flags nor tables. Called by gateway/commands/bench.py
and by tests.
"""

import asyncio
import itertools
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from gateway.bench.client import Answer, stream_completion
from gateway.bench.streamed_request import Target
from gateway.bench.workload import Workload

_WARM_UP_TOKENS = 8


class LevelResult(msgspec.Struct, frozen=True):
    """The figures of one level. NaN where nothing was measured.

    A TTFT is from before the connection is opened to the first event with text; an ITL is the gap
    between two events with text of one stream. events_per_token below 1 means that events carry
    several tokens. num_short counts streams that ended before max_tokens. client_cpu_percent is of
    one core.
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


async def warm_up(target: Target, workload: Workload, concurrency: int) -> None:
    """Let the server meet a batch of this size once, unmeasured."""
    await _streams(target, workload, concurrency, concurrency, _WARM_UP_TOKENS)


async def run_level(
    target: Target, workload: Workload, concurrency: int, *, num_requests: int = 0
) -> LevelResult:
    """Load the server with `concurrency` streams at once and return the figures.

    num_requests: 0 for 2 x concurrency, 4 at least.
    """
    num_requests = num_requests or max(4, 2 * concurrency)
    cpu_s = _cpu_seconds()
    start_s = time.perf_counter()
    answers = await _streams(target, workload, concurrency, num_requests, workload.max_tokens)
    wall_s = time.perf_counter() - start_s
    return figures(answers, concurrency, workload.max_tokens, wall_s, _cpu_seconds() - cpu_s)


def figures(
    answers: Sequence[Answer], concurrency: int, max_tokens: int, wall_s: float, cpu_s: float
) -> LevelResult:
    """Condense the answers of one level. wall_s, cpu_s: how long it took, and of our own CPU."""
    good = [answer for answer in answers if not answer.error]
    counts = [_num_tokens(answer) for answer in good]
    num_events = sum(len(answer.text_times_s) for answer in good)
    ttfts = [a.text_times_s[0] - a.started_s for a in good if a.text_times_s]
    itls = [gap for answer in good for gap in _gaps(answer.text_times_s)]
    prompts = [a.num_prompt_tokens for a in good if a.num_prompt_tokens is not None]
    return LevelResult(
        concurrency=concurrency,
        num_requests=len(answers),
        num_errors=len(answers) - len(good),
        first_error=next((answer.error for answer in answers if answer.error), ""),
        num_short=sum(count < max_tokens for count in counts),
        wall_s=wall_s,
        output_tokens=float(sum(counts)),
        prompt_tokens_per_request=statistics.fmean(prompts) if prompts else float("nan"),
        output_tokens_per_s=sum(counts) / wall_s,
        requests_per_s=len(good) / wall_s,
        ttft_p50_ms=percentile(ttfts, 50) * 1e3,
        ttft_p99_ms=percentile(ttfts, 99) * 1e3,
        itl_p50_ms=percentile(itls, 50) * 1e3,
        itl_p99_ms=percentile(itls, 99) * 1e3,
        events_per_token=num_events / sum(counts) if any(counts) else float("nan"),
        client_cpu_percent=100 * cpu_s / wall_s,
    )


def median_of(results: Sequence[LevelResult]) -> LevelResult:
    """Combine the rounds of one level: medians of figures, sums of failures."""
    medians: dict[str, Any] = {
        name: statistics.median(getattr(result, name) for result in results)
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


async def run_rounds(
    target: Target,
    workload: Workload,
    levels: Sequence[int],
    num_rounds: int,
    *,
    num_requests: int = 0,
    report: Callable[[int, LevelResult], None] = lambda round_, result: None,
) -> dict[int, list[LevelResult]]:
    """Measure all levels, once a round, so that a slow minute of the machine meets each of them."""
    results: dict[int, list[LevelResult]] = {level: [] for level in levels}
    for round_ in range(num_rounds):
        for level in results:
            if round_ == 0:
                await warm_up(target, workload, level)
            result = await run_level(target, workload, level, num_requests=num_requests)
            results[level].append(result)
            report(round_, result)
    return results


async def _streams(
    target: Target, workload: Workload, concurrency: int, num_requests: int, max_tokens: int
) -> list[Answer]:
    # Made beforehand: composing prompts is no part of the load.
    bodies = iter([workload.request(max_tokens) for _ in range(num_requests)])
    answers: list[Answer] = []

    async def client() -> None:
        for body in bodies:
            answers.append(await stream_completion(target, body, workload.timeout_s))

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return answers


def percentile(values: Iterable[float], percent: float) -> float:
    """Interpolate linearly between the two nearest values; NaN if there are none."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def _num_tokens(answer: Answer) -> int:
    # A server that sends no usage is taken at one token an event.
    known = answer.num_output_tokens
    return len(answer.text_times_s) if known is None else known


def _gaps(times_s: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times_s)]


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
