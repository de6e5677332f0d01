"""Starts one server for each layout of a grid and measures its levels; whatever dies, it goes on.

A server is started for its largest batch. Where that does not fit, its level is missing and the
next smaller one is tried: so a sweep finds out where memory runs out, as a person would. Knows
neither flags nor pages. Called by gateway/commands/bench_sweep.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from gateway.bench.death import ServerDeath
from gateway.bench.launched_server import LaunchedServer, ServerDied
from gateway.bench.load import LevelResult, run_level, warm_up
from gateway.bench.machine import Conditions
from gateway.bench.streamed_request import BenchError, Target
from gateway.bench.sweep.results import Layout, Point, Results, Run, write_results
from gateway.bench.watch import Bars
from gateway.bench.workload import Workload, calibrate

# A server that has just died says so a little later than its clients find out.
_NEWS_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep. levels: streams at once, ascending. launch: makes the server of some settings."""

    results: Results
    path: Path
    levels: Sequence[int]
    num_rounds: int
    timeout_s: float
    start_seconds: float
    bars: Bars
    launch: Callable[..., LaunchedServer] = LaunchedServer

    def run(self, layouts: Sequence[Layout]) -> None:
        """Measure what is not in the results yet, and keep each figure as soon as it is there."""
        for layout in layouts:
            run = self.results.run(layout)
            self.bars.says(f"TP {layout.tp} x DP {layout.dp}")
            todo = self._todo(run)
            self.bars.skips(self.num_rounds * len(self.levels) - self._num_left(run, todo))
            while todo:
                if (death := self._serve(run, todo)) is not None:
                    self._shrink(run, todo, death)
                todo = self._todo(run)

    def _todo(self, run: Run) -> list[int]:
        """Levels that still want rounds."""
        points = [run.point(level) for level in self.levels]
        return [
            point.concurrency
            for point in points
            if point.death is None and len(point.rounds) < self.num_rounds
        ]

    def _num_left(self, run: Run, todo: Sequence[int]) -> int:
        return sum(self.num_rounds - len(run.point(level).rounds) for level in todo)

    def _serve(self, run: Run, levels: Sequence[int]) -> ServerDeath | None:
        """Start the server for these levels and measure as many of them as it lives for.

        Returns why it did not even begin, if it did not.
        """
        settings = {"max_num_seqs": max(levels)} | run.layout.settings() | self.results.load.serve
        try:
            with self.launch(settings, start_seconds=self.start_seconds) as server:
                run.conditions = Conditions.now(server=server.compute)
                run.model_name, run.compute = server.model, server.compute
                run.command = " ".join(server.command)
                run.ready_s = server.ready_s
                self._measure(run, levels, server)
        except ServerDied as died:
            return died.death
        except BenchError as error:
            return ServerDeath(str(error), str(error), False)
        return None

    def _shrink(self, run: Run, levels: Sequence[int], death: ServerDeath) -> None:
        """A server did not begin: say so for all of its levels, or, where it had too little memory,
        for the largest.

        Next is the smallest then, lest a model that fits in no way is started for every level.
        """
        if not death.is_out_of_memory or len(levels) == 1:
            self._miss(run, levels, death)
            return
        self._miss(run, levels[-1:], death)
        has_begun = any(point.rounds for point in run.points)
        if not has_begun and (death_too := self._serve(run, levels[:1])) is not None:
            self._miss(run, levels[:-1], death_too)

    def _measure(self, run: Run, todo: Sequence[int], server: LaunchedServer) -> None:
        """Take the levels in turns, round by round; a death is noted where it happened.

        Raises BenchError and ServerDied only before any level has been asked.
        """
        target = Target.parse(server.url)
        workload = self._workload(server.model)
        uvloop.run(calibrate(target, workload))
        server.check()
        for round_ in range(self.num_rounds):
            for level in todo:
                point = run.point(level)
                if len(point.rounds) > round_ or point.death is not None:
                    continue
                is_first = not point.rounds
                try:
                    result = uvloop.run(self._level(target, workload, level, is_first=is_first))
                    if result.num_errors:
                        server.wait_for_fault(_NEWS_SECONDS)
                    server.check()
                except ServerDied as died:
                    self._die_at(run, todo, level, died.death)
                    return
                self._keep(point, result, server)

    async def _level(
        self, target: Target, workload: Workload, level: int, *, is_first: bool
    ) -> LevelResult:
        if is_first:
            await warm_up(target, workload, level)
        return await run_level(
            target, workload, level, num_requests=self.results.load.requests, watch=self.bars
        )

    def _keep(self, point: Point, result: LevelResult, server: LaunchedServer) -> None:
        if result.num_errors == result.num_requests:
            self._give_up(point, ServerDeath(result.first_error, result.first_error, False))
        else:
            point.rounds.append(result)
            point.memory_bytes = max(point.memory_bytes, server.memory_bytes)
            point.notes = self._notes(point, server)
        write_results(self.path, self.results)
        self.bars.prints(
            f"TP {server.settings['tp']} x DP {server.settings['dp']}, {point.concurrency} "
            f"streams: {result.output_tokens_per_s:.1f} tokens/s, TTFT {result.ttft_p50_ms:.0f} ms"
        )

    def _notes(self, point: Point, server: LaunchedServer) -> list[str]:
        notes = []
        load = self.results.load
        fits = server.kv_tokens // (load.prompt_tokens + load.max_tokens)
        if server.kv_tokens and fits < point.concurrency:
            notes.append(f"the KV cache holds {fits} at a time, the others waited")
        failed = sum(result.num_errors for result in point.rounds)
        if failed:
            first = next(result.first_error for result in point.rounds if result.first_error)
            notes.append(f"{failed} requests failed: {first}")
        short = sum(result.num_short for result in point.rounds)
        return [*notes, f"{short} answers ended early"] if short else notes

    def _die_at(self, run: Run, todo: Sequence[int], level: int, death: ServerDeath) -> None:
        """The server died of a level: if for want of memory, larger ones need not be tried."""
        self._miss(run, [level], death)
        if death.is_out_of_memory:
            larger = [each for each in todo if each > level]
            untried = ServerDeath(
                f"not tried: memory ran out at {level} streams", death.words, True
            )
            self._miss(run, larger, untried)

    def _miss(self, run: Run, levels: Sequence[int], death: ServerDeath) -> None:
        for level in levels:
            self._give_up(run.point(level), death)
            self.bars.prints(f"{level} streams: missing: {death.reason}")
        self.bars.skips(self.num_rounds * len(levels))
        write_results(self.path, self.results)

    def _give_up(self, point: Point, death: ServerDeath) -> None:
        point.death = death
        point.rounds.clear()

    def _workload(self, model: str) -> Workload:
        load = self.results.load
        return Workload(
            model=model,
            prompt_tokens=load.prompt_tokens,
            max_tokens=load.max_tokens,
            temperature=load.temperature,
            extra=dict(load.extra),
            timeout_s=self.timeout_s,
        )


def forget_missing(results: Results) -> None:
    """Have points tried again that have a reason in the place of figures."""
    for run in results.runs:
        run.points = [point for point in run.points if point.death is None]
