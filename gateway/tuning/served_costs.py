"""What a server adds to its engine's steps, and what sums over ranks take in it.

Measured by servers of a model of next to no weights: one group with a thread a core, a group of one
thread a core, one rank a core. What the model of cost says of such a model's steps without a server
is taken off. Called by `unisono calibrate`.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import uvloop

from backend.config.load import load_config
from backend.config.model_config import ModelConfig
from backend.placement import batch_simulation
from backend.placement.cost_model import Rows, StepCost
from backend.placement.device_profile import DeviceProfile, Serving
from backend.placement.layouts import Layout, fit, step_cost
from backend.settings import EngineSettings
from gateway.bench.launched_server import LaunchedServer
from gateway.bench.load import LevelResult, run_level, warm_up
from gateway.bench.streamed_request import BenchError, Target
from gateway.bench.workload import Workload
from gateway.dummy_model import dummy_directory
from gateway.tuning.predictions import served_model

MAX_RANKS = 8
NUM_LAYERS, HEAD_DIM, HIDDEN, VOCAB = 16, 64, 128, 512
PROMPT_TOKENS = 8
# Streams of a core, and how many tokens each gets: some hundred steps.
FEW, MANY = 1, 16
TOKENS = {FEW: 192, MANY: 96}
KV_BYTES = 1 << 24

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
        given = msgspec.structs.replace(
            settings, model=str(files), device="cpu", load_format="dummy", kv_cache_bytes=KV_BYTES
        )
        known = msgspec.structs.replace(
            profile, beside_free_core=Serving(), on_all_cores=Serving(), on_each_core=Serving()
        )
        measured = _Measured(known, load_config(files), files, given)
        report("what serving takes beside a free core, and of ranks of one thread")
        one, *all_busy = measured.levels(Layout(1, cores), 1, (1, cores, MANY * cores))
        each = measured.added(Layout(1, cores), 1, all_busy)
        found = msgspec.structs.replace(
            known,
            on_each_core=each,
            beside_free_core=measured.added(Layout(1, cores), 1, [one]),
            host_overhead_s=measured.request_s(Layout(1, cores), one),
        )
        if cores == 1:
            return found
        report("what serving takes of threads on all cores")
        layout = Layout(1)
        levels = measured.levels(layout, cores, (FEW, MANY))
        whole = measured.added(layout, cores, levels)
        found = msgspec.structs.replace(found, on_all_cores=whole)
        report("what sums over ranks take in a server")
        levels = measured.levels(Layout(ranks), 1, (FEW, MANY))
        sums = _Measured(found, measured.config, files, given)
        return msgspec.structs.replace(found, link_latency_s=sums.sum_s(Layout(ranks), levels))


class _Measured(NamedTuple):
    """A model of next to no weights, and what is known of its steps."""

    profile: DeviceProfile
    config: ModelConfig
    files: Path
    settings: EngineSettings

    def levels(self, layout: Layout, threads: int, streams: tuple[int, ...]) -> list[Level]:
        """Serve it so and measure with each number of streams."""
        given = {
            name: getattr(self.settings, name)
            for name in ("model", "device", "load_format", "kv_cache_bytes", "kernels")
        }
        layout_given = {"tp": layout.tp, "dp": layout.dp, "threads": threads}
        with LaunchedServer({**given, **layout_given}) as server:
            target = Target.parse(server.url)
            found = [uvloop.run(_level(target, server.model, each)) for each in streams]
            server.check()
        return found

    def added(self, layout: Layout, threads: int, levels: list[Level]) -> Serving:
        """Return what the server added to steps of few and of many rows."""
        left = [
            (rows, max(0.0, level.step_s - self._cost(layout, threads, level).of(step).total))
            for level in levels
            for rows in [level.streams / min(layout.dp, level.streams)]
            for step in [_decodes(rows)]
        ]
        return serving_of(left)

    def request_s(self, layout: Layout, one: Level) -> float:
        """Return what a request took beside its prompt's step."""
        prompt = Rows(0, 0, PROMPT_TOKENS, PROMPT_TOKENS / 2, 1)
        return max(0.0, one.first_s - self._cost(layout, 1, one).of(prompt).total)

    def sum_s(self, layout: Layout, levels: list[Level]) -> float:
        """Return what a sum over ranks took, beside its bytes, in a step of one row."""
        cost = self._cost(layout, 1, levels[0])
        profile = msgspec.structs.replace(self.profile, link_latency_s=0.0)
        alone = replace(cost, speed=replace(cost.speed, profile=profile))
        left_s = levels[0].step_s - alone.of(_decodes(1)).total
        return max(self.profile.link_latency_s, left_s / cost.work.num_sums)

    def _cost(self, layout: Layout, threads: int, level: Level) -> StepCost:
        settings = msgspec.structs.replace(self.settings, threads=threads)
        model = served_model(self.files, self.config, settings)
        load = batch_simulation.Load(PROMPT_TOKENS, TOKENS[FEW], level.streams)
        busy = layout.tp * min(layout.dp, level.streams)
        return step_cost(model, self.profile, layout, fit(model, self.profile, layout, load), busy)


def serving_of(left: list[tuple[float, float]]) -> Serving:
    """Return what a step and a token in it take. left: (rows, seconds) of steps of few rows, and of
    many where those were measured."""
    (few, few_s), (many, many_s) = left[0], left[-1]
    token_s = max(0.0, many_s - few_s) / (many - few) if many > few else 0.0
    return Serving(max(0.0, few_s - few * token_s), token_s)


async def _level(target: Target, model: str, streams: int) -> Level:
    tokens = TOKENS[MANY] if streams > MANY else TOKENS[FEW]
    workload = Workload(model, prompt_tokens=PROMPT_TOKENS, max_tokens=tokens, prompt_ids=True)
    await warm_up(target, workload, streams)
    result = await run_level(target, workload, streams, num_requests=max(3, streams))
    if result.num_errors:
        raise BenchError(result.first_error)
    return Level(streams, _step_s(result, tokens), result.ttft_p50_ms / 1e3)


def _step_s(result: LevelResult, tokens: int) -> float:
    """Return the time between tokens: of events it would be less where several come at once."""
    return (result.latency_p50_ms - result.ttft_p50_ms) / 1e3 / (tokens - 1)


def _decodes(rows: float) -> Rows:
    return Rows(rows, PROMPT_TOKENS + TOKENS[FEW] / 2, sampled=rows)


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
