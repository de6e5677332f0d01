"""What a server adds to its engine's steps, and what sums over ranks take in it.

Measured by servers of a model of next to no weights: one group with a thread a core, a group of one
thread a core, one rank a core. What the engine's own steps take is taken off. Called by `unisono
calibrate`.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
import uvloop

from backend.placement.device_profile import DeviceProfile, Serving
from backend.settings import EngineSettings
from backend.wire.step_times import FromMeasurement, StepTimes
from gateway.bench.launched_server import LaunchedServer
from gateway.bench.load import LevelResult, run_level, warm_up
from gateway.bench.streamed_request import BenchError, Target
from gateway.bench.workload import Workload
from gateway.dummy_model import dummy_directory

_ENGINE = (sys.executable, "-P", "-m", "backend.measurement.step_times")
MAX_RANKS = 8
NUM_LAYERS, HEAD_DIM, HIDDEN, VOCAB = 16, 64, 128, 512
PROMPT_TOKENS = 8
# Streams of a core; tokens that each gets, and as many steps of the engine alone, of the same
# contexts: with hardly any weights most of a step of many rows is attention.
FEW, MANY = 1, 16
TOKENS = 128
ROUNDS = 4
LOOKS = 4
KV_BYTES = 1 << 26

Report = Callable[[str], None]


class Level(NamedTuple):
    """streams: of the whole server; step_s: between two tokens of a stream; first_s: until its
    first one."""

    streams: int
    step_s: float
    first_s: float = 0.0


def with_serving(profile: DeviceProfile, settings: EngineSettings, report: Report) -> DeviceProfile:
    """Return a CPU's profile with what servers on it add to steps.

    settings: kernels count. Raises ServerDied and BenchError.
    """
    cores = profile.threads
    ranks = min(cores, MAX_RANKS)
    with tempfile.TemporaryDirectory(prefix="unisono-measure-") as directory:
        described = Path(directory) / "next-to-none"
        described.mkdir()
        (described / "config.json").write_text(json.dumps(_fields(ranks)))
        files = dummy_directory(str(described))
    given = {
        "model": str(files),
        "device": "cpu",
        "load_format": "dummy",
        "kv_cache_bytes": KV_BYTES,
        "kernels": settings.kernels,
    }
    report("what serving takes beside a free core, and of ranks of one thread")
    alone = engine_steps(given, 1)
    one, *all_busy = _served(given | {"dp": cores, "threads": 1}, (1, cores, MANY * cores))
    each = serving_of([(level.streams / cores, level.step_s) for level in all_busy], alone)
    found = msgspec.structs.replace(
        profile,
        on_each_core=each,
        beside_free_core=serving_of([(1, one.step_s)], alone),
        host_overhead_s=max(0.0, one.first_s - one.step_s),
    )
    if cores == 1:
        return found
    report("what serving takes of threads on all cores")
    levels = _served(given | {"threads": cores}, (FEW, MANY))
    whole = [(level.streams, level.step_s) for level in levels]
    found = msgspec.structs.replace(
        found, on_all_cores=serving_of(whole, engine_steps(given, cores))
    )
    report("what sums over ranks take in a server")
    # What disturbs one rank holds up both, for a second: the least of some looks is the sums'.
    step_s = min(
        level.step_s for level in _served(given | {"tp": ranks, "threads": 1}, (FEW,) * LOOKS)
    )
    # A rank's share takes hardly less: these weights are next to none.
    called_s = engine_steps(given | {"enforce_eager": True}, 1)[FEW]
    left_s = step_s - called_s - each.step_s - each.token_s
    return msgspec.structs.replace(
        found, link_latency_s=max(profile.link_latency_s, left_s / (2 * NUM_LAYERS))
    )


def engine_steps(given: dict[str, Any], threads: int) -> dict[int, float]:
    """Return the seconds of the engine's own steps, by rows. Raises BenchError."""
    engine = msgspec.json.encode(EngineSettings(**given)).decode()
    shapes = ",".join(f"{rows}x{PROMPT_TOKENS}" for rows in (FEW, MANY))
    command = [*_ENGINE, "--engine", engine, "--threads", str(threads), "--decodes", shapes]
    done = subprocess.run([*command, "--steps", str(TOKENS)], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise BenchError("an engine that was to be measured ended before it was")
    lines = [msgspec.json.decode(line, type=FromMeasurement) for line in done.stdout.splitlines()]
    return {line.batch: median(line.seconds) for line in lines if isinstance(line, StepTimes)}


def _served(settings: dict[str, Any], streams: tuple[int, ...]) -> list[Level]:
    """Serve it so and measure with each number of streams."""
    with LaunchedServer(settings) as server:
        target = Target.parse(server.url)
        found = [uvloop.run(_level(target, server.model, each)) for each in streams]
        server.check()
    return found


def serving_of(served: Sequence[tuple[float, float]], alone: dict[int, float]) -> Serving:
    """Return what a step and a token in it take more in a server. served: (rows, seconds) of few
    rows, and of many where those were measured. alone: seconds of the engine's steps by rows."""
    left = [(rows, max(0.0, seconds - alone[int(rows)])) for rows, seconds in served]
    (few, few_s), (many, many_s) = left[0], left[-1]
    token_s = max(0.0, many_s - few_s) / (many - few) if many > few else 0.0
    return Serving(max(0.0, few_s - few * token_s), token_s)


async def _level(target: Target, model: str, streams: int) -> Level:
    workload = Workload(model, prompt_tokens=PROMPT_TOKENS, max_tokens=TOKENS, prompt_ids=True)
    await warm_up(target, workload, streams)
    result = await run_level(target, workload, streams, num_requests=ROUNDS * streams)
    if result.num_errors:
        raise BenchError(result.first_error)
    return Level(streams, _step_s(result), result.ttft_p50_ms / 1e3)


def _step_s(result: LevelResult) -> float:
    """Return the time between tokens: of events it would be less where several come at once."""
    return (result.latency_p50_ms - result.ttft_p50_ms) / 1e3 / (TOKENS - 1)


def _fields(ranks: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": ranks,
        "num_key_value_heads": ranks,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "tie_word_embeddings": True,
        "eos_token_id": 2,
        "bos_token_id": 1,
    }
