"""`unisono bench serve`: loads a running server and prints what it did.

The server may be any that speaks /v1/completions. Progress goes to stderr, the table to stdout.
"""

import asyncio
import dataclasses
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from gateway import options
from gateway.bench.bench_settings import BenchSettings
from gateway.bench.client import fetch_json
from gateway.bench.limits import Limits
from gateway.bench.load import LevelResult, num_at_level, run_rounds
from gateway.bench.machine import Conditions
from gateway.bench.open_loop import num_at_rate, replay, run_rates
from gateway.bench.presets import with_preset
from gateway.bench.report import Level, Report
from gateway.bench.streamed_request import BenchError, Target
from gateway.bench.trace import Trace, TraceError, read_trace
from gateway.bench.trace_workload import TraceWorkload, prepare
from gateway.bench.watch import Bars
from gateway.bench.workload import RequestSource, Workload, calibrate
from gateway.client_key import key_for
from gateway.commands.output_files import check_output
from gateway.options import SettingsError

_KNOWN = frozenset(BenchSettings.__struct_fields__)


def run(flags: Mapping[str, object]) -> int:
    """Carry out the command; 1 if any request failed or the server cannot be measured.

    After Ctrl-C what was finished is told all the same.
    """
    settings = load(flags)
    if settings.html:
        from gateway.bench import charts

        charts.check_installed()
    try:
        trace = read_trace(Path(settings.trace)) if settings.trace else None
        report = uvloop.run(measure(settings, trace))
    except (BenchError, TraceError) as error:
        sys.exit(f"unisono: {error}")
    print(report.as_table())
    if settings.json:
        Path(settings.json).write_bytes(report.as_json())
    if settings.html:
        from gateway.bench.report_page import report_page

        Path(settings.html).write_text(report_page(report), encoding="utf-8")
    if report.is_cut_short:
        return 128 + signal.SIGINT
    return 1 if report.has_errors else 0


def load(flags: Mapping[str, object]) -> BenchSettings:
    """Check the flags. Raises SettingsError."""
    settings = options.read(BenchSettings, with_preset(flags, _KNOWN))
    extra_fields(settings.extra)
    if settings.rate and settings.concurrency:
        raise SettingsError(
            "--rate and --concurrency exclude each other: a server is asked at a rate, or by so "
            "many clients that wait"
        )
    check_output(json=settings.json, html=settings.html)
    return settings


async def measure(settings: BenchSettings, trace: Trace | None = None) -> Report:
    """Put the server through all levels and rounds. Raises BenchError if it cannot be begun.

    Cancelled when a round of a level is done, it reports those that are.
    """
    _allow_many_connections()
    api_key = key_for(settings.url, settings.api_key, os.environ)
    target = Target.parse(settings.url, api_key)
    model = settings.model or await _first_model(target)
    settings = msgspec.structs.replace(settings, model=model, api_key="")
    workload = Workload(
        model=model,
        prompt_tokens=settings.prompt_tokens,
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        ignore_eos=settings.ignore_eos,
        prompt_ids=settings.prompt_ids,
        extra=extra_fields(settings.extra),
        timeout_s=settings.timeout_s,
    )
    source: RequestSource = workload
    notes: list[str] = []
    if trace is None:
        await calibrate(target, workload)
    else:
        if keeps_times(settings, trace) and settings.requests:
            trace = dataclasses.replace(trace, requests=trace.requests[: settings.requests])
        traced = TraceWorkload(trace, workload, settings.length_scale)
        await prepare(target, traced, _num_requests(settings, trace))
        source, notes = traced, traced.notes()
    finished: list[LevelResult] = []
    is_cut_short = False
    try:
        await _measure_levels(settings, target, source, trace, finished)
    except asyncio.CancelledError:
        if not finished:
            raise
        is_cut_short = True
        notes.append(
            f"cut short: {len(finished)} of {_num_measured(settings, trace)} levels were measured"
        )
    server = await _server_name(target, model)
    conditions = Conditions.now(server=server)
    return Report(conditions, settings, _by_level(finished), notes, is_cut_short=is_cut_short)


def _num_measured(settings: BenchSettings, trace: Trace | None) -> int:
    """Return how many results there are of all levels and rounds."""
    replayed = trace is not None and keeps_times(settings, trace)
    return settings.rounds * (1 if replayed else len(set(settings.rate or settings.levels)))


def _by_level(finished: Sequence[LevelResult]) -> list[Level]:
    """Put the rounds of each level together, in the order of their first ones."""
    rounds: dict[tuple[int, float], list[LevelResult]] = {}
    for result in finished:
        rounds.setdefault((result.concurrency, result.offered_per_s), []).append(result)
    return [Level.of(results) for results in rounds.values()]


async def _measure_levels(
    settings: BenchSettings,
    target: Target,
    source: RequestSource,
    trace: Trace | None,
    finished: list[LevelResult],
) -> None:
    """Measure all levels in the way that the settings ask for. finished: gets their results."""
    limits = Limits(settings.ttft_limit_ms, settings.itl_limit_ms)
    replayed = trace if trace is not None and keeps_times(settings, trace) else None
    with Bars(f"{settings.model} at {target}", _num_measured(settings, trace)) as bars:

        def report(round_: int, result: LevelResult) -> None:
            finished.append(result)
            _progress(bars, round_, result)

        if replayed:
            times_s = [(each.arrival_s or 0.0) / settings.speed for each in replayed.requests]
            await replay(
                target, source, times_s, settings.rounds, limits=limits, watch=bars, report=report
            )
        elif settings.rate:
            await run_rates(
                target,
                source,
                settings.rate,
                settings.rounds,
                seconds=settings.seconds,
                num_requests=settings.requests,
                seed=settings.seed,
                limits=limits,
                watch=bars,
                report=report,
            )
        else:
            await run_rounds(
                target,
                source,
                settings.levels,
                settings.rounds,
                num_requests=settings.requests,
                limits=limits,
                watch=bars,
                report=report,
            )


def keeps_times(settings: BenchSettings, trace: Trace) -> bool:
    """Whether requests come when the trace says so."""
    return trace.has_times and not settings.rate and not settings.concurrency


def _num_requests(settings: BenchSettings, trace: Trace) -> int:
    """Return how many of a trace's requests will be asked for."""
    if keeps_times(settings, trace):
        return len(trace.requests)
    rated = [num_at_rate(rate, settings.seconds, settings.requests) for rate in settings.rate]
    closed = [num_at_level(level, settings.requests) for level in settings.levels]
    return min(len(trace.requests), settings.rounds * sum(rated or closed))


def _progress(bars: Bars, round_: int, result: LevelResult) -> None:
    failed = f", {result.num_errors} failed" if result.num_errors else ""
    rate = result.offered_per_s
    level = f"{rate:.3g} requests/s" if rate else f"{result.concurrency} streams"
    bars.prints(
        f"round {round_ + 1}, {level}: {result.output_tokens_per_s:.1f} tokens/s, "
        f"TTFT {result.ttft_p50_ms:.0f} ms{failed}"
    )


def extra_fields(text: str) -> dict[str, Any]:
    """Return the fields that --extra adds to requests. Raises SettingsError."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise SettingsError(f"--extra must be a JSON object: {error}") from error


async def _first_model(target: Target) -> str:
    models = await fetch_json(target, "/v1/models")
    try:
        return str(models["data"][0]["id"])
    except (KeyError, IndexError, TypeError) as error:
        raise BenchError(f"{target}/v1/models names no model; name one with --model") from error


async def _server_name(target: Target, model: str) -> str:
    """Say what was measured; the release only of servers that tell theirs."""
    try:
        version = str((await fetch_json(target, "/version"))["version"])
    except (BenchError, KeyError, TypeError):
        return f"{model} at {target}"
    return f"{model} at {target}, which says it is version {version}"


def _allow_many_connections() -> None:
    """Every request has a connection of its own."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
