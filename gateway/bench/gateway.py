"""What the gateway costs: a worker under load from an engine that emits tokens for free.

CPU time of the worker for a token against that of a bare ASGI app on the same server, in turns;
how late tokens come; how many tokens and short requests a second one worker can do at most.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from gateway.bench.bench_settings import GatewayBenchSettings
from gateway.bench.dialects import DIALECTS
from gateway.bench.harness import MODEL, GatewayHarness, ServedProcess
from gateway.bench.load import percentile
from gateway.bench.streamed_request import BenchError, request_bytes
from gateway.bench.streams import (
    Burst,
    Window,
    lateness_ms,
    repeat_requests,
    run_streams,
    watch_streams,
)
from gateway.bench.written import TOOLS, WRITTEN
from gateway.text.tokenizer import Tokenizer

NUM_FREE_TOKENS = 2000


class GatewayFigures(msgspec.Struct, frozen=True):
    """Medians over the rounds. CPU is user and system time of the one worker process, per event.

    late: from the step of the engine, or the round of the bare app, until the client has an event.
    """

    tokens_per_s: float
    cpu_us: float
    bare_cpu_us: float
    late_p50_ms: float
    late_p99_ms: float
    bare_late_p50_ms: float
    bare_late_p99_ms: float
    free_tokens_per_s: float
    free_cpu_us: float
    free_events_per_token: float
    requests_per_s: float
    request_cpu_us: float
    bare_requests_per_s: float
    bare_request_cpu_us: float


async def measure(settings: GatewayBenchSettings, model: Path) -> GatewayFigures:
    """Run all of it. Raises BenchError if a process does not start."""
    if settings.writes != "plain" and settings.dialect not in TOOLS:
        raise BenchError(f"--writes {settings.writes}: there are no calls in {settings.dialect}")
    if (settings.dialect, settings.writes) == ("ollama", "arguments"):
        raise BenchError("--writes arguments: Ollama's calls come whole, without an event a token")
    token_ids = plain_token_ids(model)
    paced = await _paced(settings, model, token_ids)
    free = await _free(settings, model, token_ids)
    return msgspec.convert({**paced, **free}, GatewayFigures)


async def _paced(
    settings: GatewayBenchSettings, model: Path, token_ids: tuple[int, ...]
) -> dict[str, float]:
    dialect, more = DIALECTS[settings.dialect], WRITTEN[settings.writes].fields(settings.dialect)
    body = dialect.body(MODEL, max_tokens=1_000_000, stream=True, more=more)
    ours: list[Window] = []
    baseline: list[Window] = []
    with _harness(model, token_ids, settings.rate, settings) as harness:

        async def watch(process: ServedProcess, path: str) -> Window:
            bodies = [body] * settings.streams
            return await watch_streams(
                process.target,
                process.child.pid,
                path,
                bodies,
                settings.seconds,
                dialect.form,
                head_s=harness.head_s,
            )

        for _ in range(settings.rounds):
            ours.append(await watch(harness.gateway, dialect.path))
            baseline.append(await watch(harness.baseline, "/stream"))
    late = [lateness_ms(window.times_s, harness.step_times_s) for window in ours]
    baseline_late = [lateness_ms(window.times_s, harness.round_times_s) for window in baseline]
    return {
        "tokens_per_s": _median(len(window.times_s) / window.seconds for window in ours),
        "cpu_us": _median(window.cpu_us_per_event for window in ours),
        "bare_cpu_us": _median(window.cpu_us_per_event for window in baseline),
        "late_p50_ms": _median(percentile(values, 50) for values in late),
        "late_p99_ms": _median(percentile(values, 99) for values in late),
        "bare_late_p50_ms": _median(percentile(values, 50) for values in baseline_late),
        "bare_late_p99_ms": _median(percentile(values, 99) for values in baseline_late),
    }


async def _free(
    settings: GatewayBenchSettings, model: Path, token_ids: tuple[int, ...]
) -> dict[str, float]:
    dialect, more = DIALECTS[settings.dialect], WRITTEN[settings.writes].fields(settings.dialect)
    body = dialect.body(MODEL, max_tokens=NUM_FREE_TOKENS, stream=True, more=more)
    short = dialect.body(MODEL, max_tokens=1, stream=False, more=more)
    num_tokens = settings.streams * NUM_FREE_TOKENS
    path = dialect.whole_path or dialect.path
    windows: list[Window] = []
    ours: list[Burst] = []
    baseline: list[Burst] = []
    with _harness(model, token_ids, 0.0, settings) as harness:

        async def burst(process: ServedProcess) -> Burst:
            request = request_bytes(process.target, "POST", path, short)
            request = request.replace(b"Connection: close\r\n", b"")
            return await repeat_requests(
                process.target, process.child.pid, request, settings.streams, settings.seconds
            )

        for _ in range(settings.rounds):
            pid = harness.gateway.child.pid
            bodies = [body] * settings.streams
            windows.append(
                await run_streams(harness.gateway.target, pid, dialect.path, bodies, dialect.form)
            )
            ours.append(await burst(harness.gateway))
            baseline.append(await burst(harness.baseline))
    return {
        "free_tokens_per_s": _median(num_tokens / window.seconds for window in windows),
        "free_cpu_us": _median(1e6 * window.cpu_seconds / num_tokens for window in windows),
        "free_events_per_token": _median(len(w.times_s) / num_tokens for w in windows),
        "requests_per_s": _median(b.num_requests / b.seconds for b in ours),
        "request_cpu_us": _median(1e6 * b.cpu_seconds / b.num_requests for b in ours),
        "bare_requests_per_s": _median(b.num_requests / b.seconds for b in baseline),
        "bare_request_cpu_us": _median(1e6 * b.cpu_seconds / b.num_requests for b in baseline),
    }


def as_table(figures: GatewayFigures, settings: GatewayBenchSettings) -> str:
    """Render the figures for people."""
    f = figures
    return "\n".join(
        [
            f"{settings.dialect}, {settings.writes}: {settings.streams} streams, "
            f"{settings.rate:g} tokens/s each: {f.tokens_per_s:.0f}/s",
            "                       gateway      bare     above",
            _row("CPU a token, us", f.cpu_us, f.bare_cpu_us, 1),
            _row("late p50, ms", f.late_p50_ms, f.bare_late_p50_ms, 2),
            _row("late p99, ms", f.late_p99_ms, f.bare_late_p99_ms, 2),
            _row("short requests/s", f.requests_per_s, f.bare_requests_per_s, 0),
            _row("CPU a request, us", f.request_cpu_us, f.bare_request_cpu_us, 0),
            f"free-running: {f.free_tokens_per_s:.0f} tokens/s, {f.free_cpu_us:.1f} us a token, "
            f"{f.free_events_per_token:.2f} events a token",
        ]
    )


def _harness(
    model: Path, token_ids: tuple[int, ...], rate: float, settings: GatewayBenchSettings
) -> GatewayHarness:
    """Return the processes; the baseline answers in bytes of the length of the worker's."""
    dialect, written = DIALECTS[settings.dialect], WRITTEN[settings.writes]
    answer = dialect.event.partition(b"data: ")[2] + b" " * 100
    first_ids = written.first_ids(Tokenizer.load(model))
    return GatewayHarness(model, token_ids, rate, dialect.event, answer, written, first_ids)


def _row(name: str, ours: float, bare: float, digits: int) -> str:
    cells = [f"{value:.{digits}f}".rjust(10) for value in (ours, bare, ours - bare)]
    return name.ljust(20) + "".join(cells)


def _median(values: Iterable[float]) -> float:
    return percentile(values, 50)


def plain_token_ids(model: Path) -> tuple[int, ...]:
    """Return tokens that are text by themselves, so that each makes an event."""
    tokenizer = Tokenizer.load(model)
    pieces = ((token_id, tokenizer.piece(token_id)) for token_id in range(tokenizer.vocab_size))
    plain = [i for i, piece in pieces if isinstance(piece, str) and piece.strip().isalpha()]
    return tuple(plain[:512])
