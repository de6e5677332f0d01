"""Runs a process that measures an engine's steps, and condenses what it tells.

The engine needs torch, which no process of the gateway loads. Knows neither flags nor pages.
Called by gateway/commands/bench_engine.py.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import msgspec

from backend.settings import EngineSettings
from backend.wire.sampling import SamplingParams
from backend.wire.step_times import FromMeasurement, MeasuredEngine, NotMeasured, StepTimes
from gateway.bench.load import percentile
from gateway.bench.machine import Conditions
from gateway.bench.streamed_request import BenchError

Shape = tuple[int, int]
# The command line's names of ways to choose a token.
SAMPLINGS = {
    "greedy": SamplingParams(temperature=0.0),
    "plain": SamplingParams(temperature=1.0, seed=1),
    "takeoff": SamplingParams(
        temperature=1.0,
        top_p=0.9,
        top_k=20,
        no_repeat_ngram_size=5,
        repetition_penalty=2.0,
        min_tokens=256,
        max_tokens=256,
        seed=1,
    ),
}
_MEASURE = (sys.executable, "-m", "backend.measurement.step_times")


class EngineReport(msgspec.Struct, frozen=True):
    """What was found, in the order of measuring. sampling: as on the command line."""

    conditions: Conditions
    engine: MeasuredEngine
    model: str
    sampling: str
    times: list[StepTimes]
    missing: list[NotMeasured] = []


def measure(
    settings: EngineSettings,
    sampling: str,
    decodes: Sequence[Shape],
    prompts: Sequence[Shape],
    steps: int,
    told: Callable[[FromMeasurement], None],
    command: Sequence[str] = _MEASURE,
) -> EngineReport:
    """Have each shape measured: (batch, context) of decodes, (batch, length) of prompts.

    told: is called with each result as it comes. Raises BenchError with what the process said if it
    fails; it does not outlive this call.
    """
    threads = settings.threads or len(os.sched_getaffinity(0))
    arguments = [
        *command,
        *("--engine", msgspec.json.encode(settings).decode()),
        *("--sampling", msgspec.json.encode(SAMPLINGS[sampling]).decode()),
        *("--threads", str(threads), "--steps", str(steps)),
        *("--decodes", _text(decodes), "--prompts", _text(prompts)),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    decoder = msgspec.json.Decoder(FromMeasurement)
    engine: MeasuredEngine | None = None
    times: list[StepTimes] = []
    missing: list[NotMeasured] = []
    with subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment
    ) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                message = decoder.decode(line)
                match message:
                    case MeasuredEngine():
                        engine = message
                    case StepTimes():
                        times.append(message)
                    case NotMeasured():
                        missing.append(message)
                told(message)
        finally:
            # On Ctrl-C, too: nothing goes on measuring for nobody.
            if child.poll() is None:
                child.terminate()
    if child.returncode or engine is None:
        raise BenchError("the engine was not measured: its process says why above")
    return EngineReport(Conditions.now(), engine, settings.model, sampling, times, missing)


def compute_text(report: EngineReport) -> str:
    """Say on what, by whose kernels and in which arithmetic the engine computes."""
    engine = report.engine
    return f"{engine.device}, {engine.kernels}, {engine.dtype}, {engine.threads} threads"


def missing_texts(report: EngineReport) -> list[str]:
    """Say which shapes there was no room for, and why."""
    return [
        f"{each.kind} of {each.batch} x {each.tokens:,}: {each.reason}" for each in report.missing
    ]


def quartiles_ms(times: StepTimes) -> tuple[float, float, float]:
    """Return the first quartile, the median and the third, in milliseconds."""
    low, middle, high = (1e3 * percentile(times.seconds, part) for part in (25, 50, 75))
    return low, middle, high


def tokens_per_s(times: StepTimes) -> float:
    """Return how many tokens of answers, or of prompts, the median makes a second."""
    tokens = times.batch * (times.tokens if times.kind == "prompt" else 1)
    return tokens / percentile(times.seconds, 50)


def as_table(report: EngineReport) -> str:
    """Render the medians for people, and how far the middle half of the steps spreads."""
    lines = ["decode steps   batch  context    ms/step   middle half      tokens/s"]
    lines += [_row(times) for times in report.times if times.kind == "decode"]
    prompts = [times for times in report.times if times.kind == "prompt"]
    if prompts:
        lines += ["prompts        batch   length         ms   middle half      tokens/s"]
        lines += [_row(times) for times in prompts]
    lines += [f"missing: {words}" for words in missing_texts(report)]
    engine = report.engine
    lines += [
        "",
        f"model: {report.model} ({engine.family}, {engine.weight_bytes / 1e6:,.0f} MB of weights), "
        f"{report.sampling}",
        f"computes on: {compute_text(report)}",
        *(f"{name}: {value}" for name, value in report.conditions.lines()),
    ]
    return "\n".join(lines)


def _row(times: StepTimes) -> str:
    low, middle, high = quartiles_ms(times)
    spread = f"{low:.2f} to {high:.2f}"
    return (
        f"{times.batch:>20} {times.tokens:>8,} {middle:>10.2f} {spread:>19} "
        f"{tokens_per_s(times):>7.1f}"
    )


def _text(shapes: Sequence[Shape]) -> str:
    return ",".join(f"{batch}x{tokens}" for batch, tokens in shapes)
