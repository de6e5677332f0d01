"""Measures an engine's steps by batch and context: `python -m backend.measurement.step_times`.

Loads one engine in this process, without gateway, scheduler and other ranks, and writes what it
finds as JSON lines (backend/wire/step_times.py) to stdout, as soon as each is there. Started by
`unisono bench engine`.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence

# Before torch is loaded: how long OpenMP's threads spin, as ranks have it.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import msgspec
import torch

from backend import native
from backend.config.errors import ModelError
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine, build_engine
from backend.measurement.step_plans import GREEDY, NoRoom, StepPlans
from backend.settings import EngineSettings
from backend.step import StepPlan
from backend.wire.sampling import SamplingParams
from backend.wire.step_times import FromMeasurement, MeasuredEngine, NotMeasured, StepTimes

# Steps that are run and not counted.
_WARM_UP_STEPS = 2


def main() -> None:
    """Measure every shape; the exit status is 1 for a model that cannot be served."""
    args = _arguments()
    settings = msgspec.json.decode(args.engine, type=EngineSettings)
    params = msgspec.json.decode(args.sampling, type=SamplingParams) if args.sampling else GREEDY
    torch.set_num_threads(args.threads)
    native.set_num_threads(args.threads)
    try:
        engine = build_engine(settings, TensorParallel(), lambda phase, fraction: None)
        plans = StepPlans(engine, settings.block_size)
        plans.runner  # noqa: B018 a model without steps is refused
    except (ModelError, NoRoom) as error:
        sys.exit(f"unisono: {error}")
    _tell(_described(engine, args.threads, settings.block_size))
    for batch, context in _pairs(args.decodes):
        _tell(_decode_times(plans, batch, context, params, args.steps))
    for batch, length in _pairs(args.prompts):
        _tell(_prompt_times(plans, batch, length, max(3, args.steps // 8)))


def _decode_times(
    plans: StepPlans, batch: int, context: int, params: SamplingParams, steps: int
) -> StepTimes | NotMeasured:
    """Run decode steps of so many sequences."""
    try:
        made = plans.decodes(batch, context, params, count=steps + _WARM_UP_STEPS)
    except NoRoom as error:
        return NotMeasured("decode", batch, context, str(error))
    seconds = [_run(plans, [plan]) for plan in made]
    return StepTimes("decode", batch, context, seconds[_WARM_UP_STEPS:])


def _prompt_times(plans: StepPlans, batch: int, length: int, times: int) -> StepTimes | NotMeasured:
    """Run so many prompts from their first to their last token, several times."""
    try:
        made = plans.prompts(batch, length)
    except NoRoom as error:
        return NotMeasured("prompt", batch, length, str(error))
    seconds = [_run(plans, made) for _ in range(times + 1)]
    return StepTimes("prompt", batch, length, seconds[1:])


def _run(plans: StepPlans, made: Sequence[StepPlan]) -> float:
    """Return the seconds that steps take, one after the other, until their tokens are there."""
    started = time.perf_counter()
    for plan in made:
        plans.runner.run(plan)
    if plans.engine.device.type == "cuda":
        torch.cuda.synchronize(plans.engine.device)
    return time.perf_counter() - started


def _described(engine: Engine, threads: int, block_size: int) -> MeasuredEngine:
    return MeasuredEngine(
        family=engine.config.family,
        device=str(engine.device),
        dtype=engine.dtype,
        kernels=engine.kernels,
        threads=threads,
        weight_bytes=engine.model.weight_bytes,
        kv_bytes=engine.kv_bytes,
        block_size=block_size,
    )


def _pairs(text: str) -> Iterator[tuple[int, int]]:
    """Read 1x128,4x128."""
    for pair in filter(None, text.split(",")):
        batch, _, tokens = pair.partition("x")
        yield int(batch), int(tokens)


def _tell(message: FromMeasurement) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", required=True, help="EngineSettings as JSON")
    parser.add_argument("--sampling", default="", help="SamplingParams as JSON; greedy")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--decodes", default="", help="BATCHxCONTEXT, ...")
    parser.add_argument("--prompts", default="", help="BATCHxLENGTH, ...")
    parser.add_argument("--steps", type=int, default=32, help="of each shape")
    return parser.parse_args()


if __name__ == "__main__":
    main()
