"""A trial: a server started with settings, loaded, watched and stopped.

Knows servers and loads; not what is compared.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import isnan
from typing import Any

import uvloop

from gateway.bench.launched_server import LaunchedServer, ServerDied
from gateway.bench.load import LevelResult, cpu_seconds_of_client
from gateway.bench.streamed_request import BenchError, Target
from gateway.bench.watch import SILENT, Watch
from gateway.procfs import machine_cpu_seconds
from gateway.tuning.loss import LossError, loss_percent, surprise_of, write_texts
from gateway.tuning.trial import Trial

# Puts a server that serves a model of this name under the load, watched.
RunLoad = Callable[[Target, str, Watch], Awaitable[LevelResult]]


class Measurer:
    """Measures one model under one load."""

    def __init__(self, base: dict[str, Any], load: RunLoad, watch: Watch = SILENT) -> None:
        """base: settings of every server, the model among them."""
        self._base = base
        self._watch = watch
        self._load = load
        self._texts: list[str] = []
        self._surprises: dict[str, float] = {}

    def measure(self, settings: dict[str, Any]) -> Trial:
        """Start a server with these settings beside the base, and load it."""
        self._watch.prepares("the server starts and loads the model")
        try:
            with LaunchedServer({**self._base, **settings}) as server:
                others = OtherPrograms(server)
                result = uvloop.run(self._loaded(server))
                server.check()
                return trial_of(result, server.memory_bytes, others.cores())
        except ServerDied as error:
            return Trial(failure=error.death.reason, may_pass=not error.death.is_out_of_memory)
        except BenchError as error:
            return Trial(failure=str(error), may_pass=True)

    def loss(self, settings: dict[str, Any], without: dict[str, Any]) -> float:
        """Return how much larger the perplexity is with some settings than without them, in
        percent. Raises LossError."""
        before = self._surprise(without)
        return loss_percent(before, self._surprise(settings))

    async def _loaded(self, server: LaunchedServer) -> LevelResult:
        return await asyncio.ensure_future(
            self._load(Target.parse(server.url), server.model, self._watch)
        )

    def _surprise(self, settings: dict[str, Any]) -> float:
        key = repr(sorted(settings.items()))
        if key not in self._surprises:
            self._watch.prepares("the perplexity of its own text")
            try:
                with LaunchedServer({**self._base, **settings}) as server:
                    if not self._texts:
                        self._texts = write_texts(server.url, server.model)
                    self._surprises[key] = surprise_of(server.url, server.model, self._texts)
            except ServerDied as error:
                raise LossError(error.death.reason) from None
        return self._surprises[key]


class OtherPrograms:
    """What takes the cores beside a server and the client that loads it, from now on."""

    def __init__(self, server: LaunchedServer) -> None:
        self._server = server
        self._began_s, self._began_cpu_s = time.monotonic(), self._cpu_s()

    def cores(self) -> float:
        """Return how many cores they have taken on average."""
        passed_s = time.monotonic() - self._began_s
        return max(0.0, (self._cpu_s() - self._began_cpu_s) / passed_s)

    def _cpu_s(self) -> float:
        return machine_cpu_seconds() - self._server.cpu_seconds() - cpu_seconds_of_client()


def trial_of(result: LevelResult, memory_bytes: int, other_cores: float = 0.0) -> Trial:
    """Take from a level's figures what trials are compared by."""
    if result.num_errors:
        words = f"{result.num_errors} requests failed: {result.first_error}"
        return Trial(failure=words, may_pass=True)
    return Trial(
        tokens_per_s=result.output_tokens_per_s,
        request_ms=result.latency_p50_ms,
        ttft_p50_ms=result.ttft_p50_ms,
        ttft_p99_ms=result.ttft_p99_ms,
        itl_p50_ms=_gap_ms(result.itl_p50_ms),
        itl_p99_ms=_gap_ms(result.itl_p99_ms),
        memory_bytes=memory_bytes,
        other_cores=other_cores,
    )


def _gap_ms(ms: float) -> float:
    """Answers of one token have no gaps, so none that is too long, and JSON has no NaN."""
    return 0.0 if isnan(ms) else ms
