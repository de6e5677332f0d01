"""What every trial's server is put under: streams of equal requests, or a trace's.

Knows settings of `unisono tune` and gateway/bench; no servers of its own.
"""

import dataclasses
from pathlib import Path
from typing import Any

from gateway.bench.load import LevelResult, run_level, warm_up
from gateway.bench.open_loop import replay
from gateway.bench.streamed_request import Target
from gateway.bench.trace import Trace, read_trace
from gateway.bench.trace_workload import TraceWorkload, prepare
from gateway.bench.watch import SILENT, Watch
from gateway.bench.workload import Workload, calibrate
from gateway.tuning.knobs import Load
from gateway.tuning.tune_settings import TuneSettings


class TrialLoad:
    """One load, the same for every trial but for the prompts themselves."""

    def __init__(self, settings: TuneSettings, extra: dict[str, Any]) -> None:
        """extra: fields merged into every request. Raises TraceError, OSError for a trace."""
        self._settings = settings
        self._extra = extra
        self._trace = _read(settings) if settings.load else None

    @property
    def shape(self) -> Load:
        """What it is like; a trace by its median lengths."""
        settings, trace = self._settings, self._trace
        if trace is None:
            return Load(settings.concurrency, settings.prompt_tokens, settings.max_tokens)
        requests = trace.requests
        return Load(
            settings.concurrency,
            _median([request.num_prompt_tokens for request in requests]) or settings.prompt_tokens,
            _median([request.num_output_tokens for request in requests]) or settings.max_tokens,
        )

    def __str__(self) -> str:
        settings = self._settings
        if self._trace is not None:
            times = "at its own times" if self._trace.has_times else self._streams()
            return f"{len(self._trace.requests)} requests of {Path(settings.load).name}, {times}"
        return (
            f"{self._streams()}, prompts of {settings.prompt_tokens} tokens, "
            f"{settings.max_tokens} output tokens, temperature {settings.temperature:g}"
        )

    async def run(self, target: Target, model: str, watch: Watch = SILENT) -> LevelResult:
        """Put a server under it once. Raises BenchError if it cannot be begun."""
        settings = self._settings
        workload = Workload(
            model,
            prompt_tokens=settings.prompt_tokens,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            extra=self._extra,
        )
        watch.prepares("warming up")
        if self._trace is None:
            await calibrate(target, workload)
            await warm_up(target, workload, settings.concurrency)
            return await run_level(
                target,
                workload,
                settings.concurrency,
                num_requests=settings.requests,
                watch=watch,
            )
        traced = TraceWorkload(self._trace, workload)
        await prepare(target, traced, len(self._trace.requests))
        if self._trace.has_times:
            times_s = [request.arrival_s or 0.0 for request in self._trace.requests]
            return (await replay(target, traced, times_s, 1, watch=watch))[0]
        await warm_up(target, traced, settings.concurrency)
        return await run_level(
            target,
            traced,
            settings.concurrency,
            num_requests=len(self._trace.requests),
            watch=watch,
        )

    def _streams(self) -> str:
        count = self._settings.concurrency
        return f"{count} stream{'s' if count > 1 else ''}"


def _read(settings: TuneSettings) -> Trace:
    trace = read_trace(Path(settings.load))
    if settings.requests:
        return dataclasses.replace(trace, requests=trace.requests[: settings.requests])
    return trace


def _median(lengths: list[int]) -> int:
    return sorted(lengths)[len(lengths) // 2]
