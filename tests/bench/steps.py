"""What one step costs, part by part: `python -m tests.bench.steps [--rows 1,4,16,64]`.

Runs an engine in this process, without gateway and scheduler: decode steps at each number of rows
at a given context, then prompts. Of every part's own time (what it calls counted elsewhere) the
median over the steps is shown; `rest` is what no part accounts for: embedding, residual sums,
dispatch. GB/s counts the weights and the keys and values that a step must read, and states, which
it reads and writes, once each, next to what passes over a large buffer reach. `unisono bench
engine` times whole steps, of any model.
"""

import argparse
import functools
import os
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import torch

from backend import native
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine, build_engine
from backend.layers.embedding import VocabParallelHead
from backend.layers.linear import ColumnParallelLinear, GatedLinear, RowParallelLinear
from backend.layers.moe import MixtureOfExperts
from backend.measurement.step_plans import StepPlans
from backend.ops.cpu import CpuOps
from backend.ops.native import NativeOps
from backend.sampling.sampler import Sampler
from backend.settings import EngineSettings
from backend.step import StepPlan
from backend.wire.sampling import SamplingParams
from gateway.default_model import default_model

LOADS = {
    "greedy": SamplingParams(temperature=0.0),
    "plain": SamplingParams(temperature=1.0, seed=1),
    "top_p": SamplingParams(temperature=1.0, top_p=0.95, seed=1),
    "logprobs": SamplingParams(temperature=1.0, logprobs=5, seed=1),
    "article": SamplingParams(
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
PARTS: list[tuple[str, type, list[str]]] = [
    ("linears", ColumnParallelLinear, ["forward"]),
    ("linears", GatedLinear, ["forward"]),
    ("linears", RowParallelLinear, ["forward"]),
    ("head", VocabParallelHead, ["forward", "argmax"]),
    *[("attention", ops, ["plan_attention", "attention"]) for ops in (CpuOps, NativeOps)],
    *[
        ("norms etc.", ops, ["add_rms_norm", "rotate_store", "silu_mul"])
        for ops in (CpuOps, NativeOps)
    ],
    ("states", NativeOps, ["causal_conv", "delta_rule", "gated_norm", "ssm_scan"]),
    ("experts", MixtureOfExperts, ["forward"]),
    ("sampling", Sampler, ["sample", "choose"]),
]
NAMES = list(dict.fromkeys(part for part, _, _ in PARTS))


class Stopwatch:
    """Exclusive time of each part of a step, in seconds."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]  # time of the calls inside each open one

    def watch(self, part: str, owner: type, name: str) -> None:
        """Replace a method by one that is timed."""
        method = getattr(owner, name)

        @functools.wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                spent = time.perf_counter() - started
                self._seconds[part] += spent - self._inner.pop()
                self._inner[-1] += spent

        setattr(owner, name, timed)

    def read(self) -> list[float]:
        """Return the times since the last reading, in the order of NAMES."""
        seconds, self._seconds = self._seconds, defaultdict(float)
        return [seconds[name] for name in NAMES]


class Steps:
    """Runs plans made by hand on one engine, and shares their time out over its parts."""

    def __init__(self, engine: Engine, block_size: int, quantile: float) -> None:
        self.plans = StepPlans(engine, block_size)
        self._engine = engine
        self._block_size = block_size
        self._quantile = quantile
        self._watch = Stopwatch()
        for part, owner, methods in PARTS:
            for name in methods:
                self._watch.watch(part, owner, name)

    def measure(self, works: Iterable[list[StepPlan]]) -> list[float]:
        """Run works of one step or several; return ms of the whole, of each part and of the rest,
        of a work."""
        samples: list[list[float]] = []
        for work in works:
            self._watch.read()
            started = time.perf_counter()
            for plan in work:
                self._engine.runner.run(plan)
            whole = time.perf_counter() - started
            parts = self._watch.read()
            samples.append([whole, *parts, whole - sum(parts)])
        return [1e3 * float(q) for q in np.quantile(samples[1:], self._quantile, axis=0)]

    def bytes_moved(self, rows: int, tokens: int) -> int:
        """Bytes that a step must move: weights as they are kept, keys and values of tokens, and
        the rows' states, which are read and written."""
        engine = self._engine
        token_bytes = engine.kv_bytes // max(1, engine.num_blocks * self._block_size)
        state_bytes = engine.state_bytes // max(1, engine.num_slots)
        kept = token_bytes * len(engine.groups) * tokens
        return engine.model.weight_bytes + kept + 2 * state_bytes * rows


def read_bandwidth() -> float:
    """Bytes a second of reading a buffer far larger than any cache, the best of several passes."""
    buffer = torch.ones(1 << 28)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        buffer.sum()
        times.append(time.perf_counter() - started)
    return buffer.numel() * buffer.element_size() / min(times)


def main() -> None:
    """Print one line for each number of rows and each shape of prompts."""
    args = _arguments()
    settings = msgspec.json.decode(args.engine, type=EngineSettings)
    if not settings.model:
        settings = msgspec.structs.replace(settings, model=str(default_model(progress=False)))
    if settings.threads:
        torch.set_num_threads(settings.threads)
        native.set_num_threads(settings.threads)
    engine = build_engine(settings, TensorParallel(), lambda phase, fraction: None)
    steps = Steps(engine, settings.block_size, args.quantile)
    limit = read_bandwidth()
    print(f"memory is read at {limit / 1e9:.1f} GB/s\n")
    print("| ms a step |", " | ".join(["whole", *NAMES, "rest"]), "| tokens/s | GB/s |")
    print("|---" * (len(NAMES) + 5) + "|")
    for rows in map(int, args.rows.split(",")):
        plans = steps.plans.decodes(rows, args.context, LOADS[args.load], count=args.steps)
        times = steps.measure([plan] for plan in plans)
        rate = steps.bytes_moved(rows, rows * args.context) / times[0] * 1e3
        share = f" {rate / 1e9:.1f} ({rate / limit:.0%}) |"
        print(_line(f"{rows} rows", times, rows) + share, flush=True)
    for shape in filter(None, args.prompts.split(",")):
        sizes, _, behind = shape.partition("@")
        work = steps.plans.prompts(*map(int, sizes.split("x")))
        if behind:
            work = [work[_chunk_at(work, int(behind))]]
        times = steps.measure([work] * max(4, args.steps // 4))
        tokens = sum(plan.num_tokens for plan in work)
        print(_line(f"prompts {shape}", times, tokens) + " |", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="1,4,16,64")
    parser.add_argument("--context", type=int, default=192)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--load", choices=LOADS, default="greedy")
    parser.add_argument(
        "--prompts",
        default="1x128,2x128,1x512",
        help="NUMBERxLENGTH, ...; NUMBERxLENGTH@TOKENS: of it the chunk behind so many tokens",
    )
    parser.add_argument("--quantile", type=float, default=0.5, help="below 0.5 on a busy machine")
    parser.add_argument("--engine", default="{}", help="EngineSettings as JSON")
    return parser.parse_args()


def _chunk_at(plans: list[StepPlan], tokens: int) -> int:
    """Return which of a prompt's chunks has so many tokens before it, at least."""
    before = 0
    for index, plan in enumerate(plans):
        if before >= tokens:
            return index
        before += plan.num_tokens
    raise SystemExit(f"of such a prompt no chunk has {tokens} tokens before it")


def _line(name: str, times: list[float], tokens: int) -> str:
    cells = " | ".join(f"{ms:.2f}" for ms in times)
    return f"| {name} | {cells} | {1e3 * tokens / times[0]:.0f} |"


if __name__ == "__main__":
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as ranks do
    main()
