"""A trial: a server started with settings, loaded, watched and stopped.

Knows servers and loads; not what is compared.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from gateway.bench.launched_server import LaunchedServer, ServerDied
from gateway.bench.load import LevelResult
from gateway.bench.streamed_request import BenchError, Target
from gateway.tuning.loss import LossError, loss_percent, surprise_of, write_texts
from gateway.tuning.trial import Trial

# Puts a server that serves a model of this name under the load.
RunLoad = Callable[[Target, str], Awaitable[LevelResult]]


class Measurer:
    """Measures one model under one load."""

    def __init__(self, base: dict[str, Any], load: RunLoad) -> None:
        """base: settings of every server, the model among them."""
        self._base = base
        self._load = load
        self._texts: list[str] = []
        self._surprises: dict[str, float] = {}

    def measure(self, settings: dict[str, Any]) -> Trial:
        """Start a server with these settings beside the base, and load it."""
        try:
            with LaunchedServer({**self._base, **settings}) as server:
                result = uvloop.run(self._loaded(server))
                server.check()
                return trial_of(result, server.memory_bytes)
        except ServerDied as error:
            return Trial(failure=error.death.reason)
        except BenchError as error:
            return Trial(failure=str(error))

    def loss(self, settings: dict[str, Any], without: dict[str, Any]) -> float:
        """Return how much larger the perplexity is with some settings than without them, in
        percent. Raises LossError."""
        before = self._surprise(without)
        return loss_percent(before, self._surprise(settings))

    async def _loaded(self, server: LaunchedServer) -> LevelResult:
        return await asyncio.ensure_future(self._load(Target.parse(server.url), server.model))

    def _surprise(self, settings: dict[str, Any]) -> float:
        key = repr(sorted(settings.items()))
        if key not in self._surprises:
            try:
                with LaunchedServer({**self._base, **settings}) as server:
                    if not self._texts:
                        self._texts = write_texts(server.url, server.model)
                    self._surprises[key] = surprise_of(server.url, server.model, self._texts)
            except ServerDied as error:
                raise LossError(error.death.reason) from None
        return self._surprises[key]


def trial_of(result: LevelResult, memory_bytes: int) -> Trial:
    """Take from a level's figures what trials are compared by."""
    if result.num_errors:
        return Trial(failure=f"{result.num_errors} requests failed: {result.first_error}")
    return Trial(
        tokens_per_s=result.output_tokens_per_s,
        request_ms=1e3 * result.concurrency / result.requests_per_s,
        ttft_p50_ms=result.ttft_p50_ms,
        ttft_p99_ms=result.ttft_p99_ms,
        itl_p50_ms=result.itl_p50_ms,
        itl_p99_ms=result.itl_p99_ms,
        memory_bytes=memory_bytes,
    )
