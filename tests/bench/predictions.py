"""Predictions held against measurements: `python -m tests.bench.predictions --results FILE`.

Three models, all layouts that this machine can run, some numbers of streams: what
backend/placement/prediction.py predicts of tokens/s, memory and the order of layouts, beside what
servers do. First `unisono calibrate`, in the same quiet hour. Layouts take turns in each round;
every measurement is written down at once, so the same command goes on where it was cut off, and
`--minutes` ends it in time. `--report` measures nothing and prints the tables.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import uvloop

from backend.config.load import load_config
from backend.placement.device_profile import DeviceProfile, num_cores
from backend.placement.prediction import Prediction
from backend.placement.served_model import ServedModel
from backend.settings import EngineSettings
from gateway.bench.launched_server import LaunchedServer, ServerDied
from gateway.bench.load import LevelResult, run_level, warm_up
from gateway.bench.machine import commit, machine_name
from gateway.bench.streamed_request import Target
from gateway.bench.workload import Workload, calibrate
from gateway.default_model import cache_directory, default_model
from gateway.planning.devices import cpu_profile
from gateway.tuning.knobs import Choice, Load
from gateway.tuning.layouts import Devices, possible
from gateway.tuning.measurer import OtherPrograms
from gateway.tuning.predictions import predict_layouts, served_model
from tests.backend.factories import write_tiny_llama

# Small enough that the largest load touches all of it: so it counts as memory in whole.
KV_BYTES = 1 << 27
# A model of next to no weights: what a rank takes before it has any, PyTorch above all.
RUNTIME = "no model"
RUNTIME_KV_BYTES = 1 << 20
DEVICES = Devices(cores=num_cores())
SPEED_ERROR, MEMORY_ERROR, TIE = 0.20, 0.05, 0.05
QWEN, GEMMA = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", "gemma-3-270m-q4_k_m.gguf"


@dataclass(frozen=True, slots=True)
class Case:
    """A model and what it is loaded with. streams: levels, one after another."""

    name: str
    path: Path
    streams: tuple[int, ...]
    prompt_tokens: int = 128
    max_tokens: int = 128
    kv_bytes: int = KV_BYTES


class Measured(msgspec.Struct, frozen=True):
    """One level of one server in one round. rank_bytes: of each rank after the load, without
    libraries.."""

    machine: str
    commit: str
    model: str
    layout: str
    streams: int
    round: int
    tokens_per_s: float = 0.0
    ttft_p50_ms: float = 0.0
    itl_p50_ms: float = 0.0
    rank_bytes: tuple[int, ...] = ()
    other_cores: float = 0.0
    failure: str = ""


class Row(msgspec.Struct, frozen=True):
    """Medians beside a prediction. spread: from the least to the most, of tokens/s. other_cores:
    what other programs took meanwhile, which no prediction knows."""

    model: str
    layout: str
    streams: int
    rounds: int
    predicted: float
    measured: float
    spread: tuple[float, float]
    error: float
    ttft_ms: tuple[float, float]
    itl_ms: tuple[float, float]
    bound: str
    other_cores: float = 0.0


class MemoryRow(msgspec.Struct, frozen=True):
    """Bytes of the fullest rank, predicted and measured."""

    model: str
    layout: str
    predicted: int
    measured: int
    error: float


class Report(msgspec.Struct, frozen=True):
    """All of it. pairs: of layouts of a model and level that differ by more than a tie; wrong:
    those of them that were predicted the other way round."""

    machine: str
    profile: str
    rows: list[Row]
    memory: list[MemoryRow]
    pairs: int
    wrong: list[str]


def cases(extra: Sequence[str]) -> list[Case]:
    """The three models; and other directories or files, with fewer streams."""
    cache = cache_directory()
    known = [
        Case("smollm2", default_model(progress=False), (1, 4, 16)),
        Case("gemma3", cache / GEMMA, (1, 4, 16)),
        Case("qwen2.5", cache / QWEN, (1, 4, 8), max_tokens=48),
    ]
    return known + [Case(Path(path).name, Path(path), (1, 4, 16)) for path in extra]


def layouts_of(case: Case) -> tuple[list[Choice], dict[str, str]]:
    """Return what this machine can run of a model, and why not the others."""
    return possible(load_config(case.path), DEVICES)


def main() -> None:
    """Measure what is not measured yet, then print the tables."""
    args = _arguments()
    chosen = [case for case in cases(args.model) if case.path.exists()]
    chosen = [case for case in chosen if not args.only or case.name in args.only.split(",")]
    file = Path(args.results)
    if not args.report:
        deadline_s = time.monotonic() + 60 * args.minutes
        with tempfile.TemporaryDirectory() as directory:
            tiny = write_tiny_llama(Path(directory) / "tiny", num_kv_heads=2, num_heads=4)
            empty = Case(RUNTIME, tiny, (1,), 32, 32, RUNTIME_KV_BYTES)
            is_whole = measure_all([empty], file, 1, deadline_s)
            is_whole = is_whole and measure_all(chosen, file, args.rounds, deadline_s)
        print("all is measured" if is_whole else "not all yet: the same command goes on")
    report = compare(chosen, read_all(file), cpu_profile())
    print(as_tables(report))
    if args.json:
        Path(args.json).write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


def measure_all(chosen: Sequence[Case], file: Path, rounds: int, deadline_s: float) -> bool:
    """Measure round by round; False if the time was over first."""
    done = {(m.model, m.layout, m.round) for m in read_all(file)}
    for round_ in range(rounds):
        for case in chosen:
            for choice in layouts_of(case)[0]:
                if (case.name, choice.name, round_) in done:
                    continue
                if time.monotonic() > deadline_s:
                    return False
                for measured in measure(case, choice, round_):
                    append(file, measured)
    return True


def measure(case: Case, choice: Choice, round_: int) -> list[Measured]:
    """Start a server and load it with each number of streams."""
    about: dict[str, Any] = {
        "machine": machine_name(),
        "commit": commit(),
        "model": case.name,
        "layout": choice.name,
        "round": round_,
    }
    found = []
    try:
        with LaunchedServer({**_settings(case), **choice.values}) as server:
            target = Target.parse(server.url)
            for streams in case.streams:
                others = OtherPrograms(server)
                result = uvloop.run(_load(target, server.model, case, streams))
                server.check()
                found.append(_measured(about, streams, result, others, server))
    except ServerDied as error:
        found.append(Measured(**about, streams=0, failure=error.death.reason))
    return found


async def _load(target: Target, model: str, case: Case, streams: int) -> LevelResult:
    workload = Workload(model, prompt_tokens=case.prompt_tokens, max_tokens=case.max_tokens)
    await calibrate(target, workload)
    await warm_up(target, workload, streams)
    return await run_level(target, workload, streams, num_requests=streams * _rounds(streams))


def _rounds(streams: int) -> int:
    """Requests of a stream: of one alone more, to have some to take the middle of."""
    return 3 if streams == 1 else 2


def _measured(
    about: dict[str, Any],
    streams: int,
    result: LevelResult,
    others: OtherPrograms,
    server: LaunchedServer,
) -> Measured:
    if result.num_errors:
        return Measured(**about, streams=streams, failure=result.first_error)
    memory = server.memory_by_process()
    measured = Measured(
        **about,
        streams=streams,
        tokens_per_s=result.output_tokens_per_s,
        ttft_p50_ms=result.ttft_p50_ms,
        itl_p50_ms=result.itl_p50_ms,
        rank_bytes=tuple(size for name, size in sorted(memory.items()) if name.startswith("rank")),
        other_cores=others.cores(),
    )
    print(
        f"{measured.model}, {measured.layout}, {streams} streams: {measured.tokens_per_s:.1f} "
        f"tokens/s, others took {measured.other_cores:.1f} cores",
        file=sys.stderr,
        flush=True,
    )
    return measured


def _settings(case: Case) -> dict[str, Any]:
    return {"model": str(case.path), "device": "cpu", "kv_cache_bytes": case.kv_bytes}


def compare(chosen: Sequence[Case], found: Sequence[Measured], profile: DeviceProfile) -> Report:
    """Put predictions beside the medians of what was measured."""
    rows: list[Row] = []
    memory: list[MemoryRow] = []
    wrong: list[str] = []
    pairs = 0
    for case in chosen:
        model = _described(case)
        for streams in case.streams:
            level = list(_rows(case, model, streams, found, profile))
            rows += level
            count, mistakes = ranking(level)
            pairs, wrong = pairs + count, wrong + mistakes
        memory += _memory_rows(case, model, found, profile)
    return Report(machine_name(), f"{profile.name}: {profile.source}", rows, memory, pairs, wrong)


def ranking(level: Sequence[Row]) -> tuple[int, list[str]]:
    """Count pairs of layouts that differ by more than a tie, and list those predicted wrongly: the
    other way round, and by more than a tie."""
    pairs, wrong = 0, []
    for index, first in enumerate(level):
        for second in level[index + 1 :]:
            better, worse = sorted((first, second), key=lambda row: -row.measured)
            if better.measured <= (1 + TIE) * worse.measured:
                continue
            pairs += 1
            if worse.predicted > (1 + TIE) * better.predicted:
                wrong.append(f"{first.model}, {first.streams} streams: {worse.layout} first")
    return pairs, wrong


def _described(case: Case) -> ServedModel:
    return served_model(case.path, load_config(case.path), EngineSettings(**_settings(case)))


def _predictions(
    case: Case, model: ServedModel, streams: int, profile: DeviceProfile
) -> dict[str, Prediction]:
    load = Load(streams, case.prompt_tokens, case.max_tokens)
    choices = possible(model.config, DEVICES)[0]
    return predict_layouts(model, profile, choices, load, _rounds(streams))[0]


def _rows(
    case: Case,
    model: ServedModel,
    streams: int,
    found: Sequence[Measured],
    profile: DeviceProfile,
) -> Iterator[Row]:
    for name, predicted in _predictions(case, model, streams, profile).items():
        same = [
            each
            for each in found
            if (each.model, each.layout, each.streams) == (case.name, name, streams)
            and not each.failure
        ]
        if not same:
            continue
        speeds = [each.tokens_per_s for each in same]
        yield Row(
            model=case.name,
            layout=name,
            streams=streams,
            rounds=len(same),
            predicted=predicted.tokens_per_s,
            measured=median(speeds),
            spread=(min(speeds), max(speeds)),
            error=predicted.tokens_per_s / median(speeds) - 1,
            ttft_ms=(1e3 * predicted.ttft_s, median(each.ttft_p50_ms for each in same)),
            itl_ms=(1e3 * predicted.inter_token_s, median(each.itl_p50_ms for each in same)),
            bound=predicted.bound,
            other_cores=median(each.other_cores for each in same),
        )


def _memory_rows(
    case: Case, model: ServedModel, found: Sequence[Measured], profile: DeviceProfile
) -> Iterator[MemoryRow]:
    """Compare the fullest rank after the largest load. Predicted is what a rank has without a
    model, measured once, and all that a plan counts for this load: weights, cache, states, and
    activations without logits, for it is greedy."""
    streams = max(case.streams)
    for name, predicted in _predictions(case, model, streams, profile).items():
        sizes = _rank_bytes(found, case.name, name, streams)
        empty = _rank_bytes(found, RUNTIME, name, 1)
        if sizes and empty:
            budget = predicted.memory
            wanted = budget.total_bytes - budget.logit_bytes + int(median(empty))
            measured = int(median(sizes))
            yield MemoryRow(case.name, name, wanted, measured, wanted / measured - 1)


def _rank_bytes(found: Sequence[Measured], model: str, layout: str, streams: int) -> list[int]:
    """Return what the fullest rank took, a round each."""
    return [
        max(each.rank_bytes)
        for each in found
        if (each.model, each.layout, each.streams) == (model, layout, streams) and each.rank_bytes
    ]


def as_tables(report: Report) -> str:
    """Write what can go into tests/bench/README.md."""
    lines = [
        f"{report.machine}; {report.profile}",
        "",
        "| model | layout | streams | others, cores | predicted, tokens/s | measured | off "
        "| TTFT p50, ms | between tokens, ms | bound by |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {row.model} | {row.layout} | {row.streams} | {row.other_cores:.1f} | "
            f"{row.predicted:.0f} | "
            f"{row.measured:.0f} ({row.spread[0]:.0f} to {row.spread[1]:.0f}) | {row.error:+.0%} | "
            f"{row.ttft_ms[0]:.0f}; {row.ttft_ms[1]:.0f} | "
            f"{row.itl_ms[0]:.1f}; {row.itl_ms[1]:.1f} | {row.bound} |"
            for row in report.rows
        ),
        "",
        "| model | layout | a rank, predicted MB | measured | off |",
        "|---|---|---|---|---|",
        *(
            f"| {row.model} | {row.layout} | {row.predicted / 1e6:.0f} | "
            f"{row.measured / 1e6:.0f} | {row.error:+.1%} |"
            for row in report.memory
        ),
        "",
        _verdict(report),
    ]
    return "\n".join(lines)


def _verdict(report: Report) -> str:
    near = sum(abs(row.error) <= SPEED_ERROR for row in report.rows)
    fitting = sum(abs(row.error) <= MEMORY_ERROR for row in report.memory)
    wrong = f" ({'; '.join(report.wrong)})" if report.wrong else ""
    return (
        f"tokens/s within {SPEED_ERROR:.0%}: {near} of {len(report.rows)}; order right: "
        f"{report.pairs - len(report.wrong)} of {report.pairs} pairs that differ by more than "
        f"{TIE:.0%}{wrong}; memory within {MEMORY_ERROR:.0%}: {fitting} of {len(report.memory)}"
    )


def append(path: Path, measured: Measured) -> None:
    """Write one down."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(measured) + b"\n")


def read_all(path: Path) -> list[Measured]:
    """Return what has been written down, oldest first."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Measured) for line in path.read_bytes().splitlines()]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", required=True, help="file of measurements, appended to")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=8.0, help="no server is started later")
    parser.add_argument("--only", default="", help="names of models, separated by commas")
    parser.add_argument("--model", action="append", default=[], help="another file or directory")
    parser.add_argument("--json", default="", help="file for the comparison")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
