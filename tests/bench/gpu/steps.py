"""Decode steps of one model on one device: what they take, under Table 3's sampling and greedy."""

import itertools
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from backend.config.errors import ModelError
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.device_runner import DeviceRunner, LaunchedStep
from backend.engine.engine import Engine, build_engine
from backend.measurement.step_plans import NoRoom, StepPlans
from backend.settings import EngineSettings
from backend.step import StepPlan
from backend.wire.sampling import SamplingParams
from gateway.bench.presets import TAKEOFF_SAMPLING
from gateway.dummy_model import dummy_directory
from tests.bench.gpu.floors import Floor

_SAMPLING: dict[str, Any] = {**TAKEOFF_SAMPLING}
TABLE_3 = SamplingParams(temperature=1.0, max_tokens=256, seed=1, ignore_eos=True, **_SAMPLING)
GREEDY = SamplingParams(temperature=0.0)
# Of 256 tokens that are written a step has half before it, on average.
WRITTEN = 128
WARM_UP_STEPS = 4


class Row(msgspec.Struct):
    """One point. Seconds are medians; 0 with a reason where it was not measured.

    share: of the step that reading its bytes takes at the copy bandwidth; 0 without one.
    """

    batch: int
    prompt: int
    step_s: float = 0.0
    greedy_s: float = 0.0
    share: float = 0.0
    reason: str = ""


class StepResults(msgspec.Struct):
    """The rows of a model. load_s: until its first step can run, captures included."""

    model: str
    quantization: str
    kernels: str
    weight_bytes: int
    kv_token_bytes: int
    load_s: float
    rows: list[Row]


def measure_steps(
    model: str,
    batches: Sequence[int],
    prompts: Sequence[int],
    *,
    bytes_s: float,
    steps: int = 24,
    save: Callable[[StepResults], None] = lambda results: None,
    **settings: Any,
) -> StepResults:
    """Serve a shape with random weights in this process, and time its decodes.

    bytes_s: the device's copy bandwidth; 0: none is known. save: told what there is after each row.
    settings: of the engine. Raises ModelError.
    """
    directory = dummy_directory(model)
    told = msgspec.convert(
        {
            "model": str(directory),
            "max_num_seqs": max(batches),
            "max_model_len": max(prompts) + 2 * WRITTEN,
            **settings,
        },
        EngineSettings,
    )
    started = time.perf_counter()
    engine = build_engine(told, TensorParallel(), lambda phase, fraction: None)
    load_s = time.perf_counter() - started
    floor = Floor.of(engine.config, engine.model.weight_bytes, engine.dtype, told.kv_cache_dtype)
    plans = StepPlans(engine, told.block_size)
    results = StepResults(
        model,
        told.quantization,
        engine.kernels,
        engine.model.weight_bytes,
        floor.kv_token_bytes,
        load_s,
        [],
    )
    for prompt in prompts:
        for batch in batches:
            results.rows.append(_row(plans, batch, prompt, steps, floor, bytes_s))
            save(results)
    return results


def _row(
    plans: StepPlans, batch: int, prompt: int, steps: int, floor: Floor, bytes_s: float
) -> Row:
    context = prompt + WRITTEN
    try:
        step_s, greedy_s = (
            _median(plans.engine, plans.decodes(batch, context, params, count=steps))
            for params in (TABLE_3, GREEDY)
        )
    except (NoRoom, ModelError) as error:
        return Row(batch, prompt, reason=str(error).partition("\n")[0])
    except Exception as error:  # what the other points give is worth having
        traceback.print_exc()
        return Row(batch, prompt, reason=f"{type(error).__name__}: {error}".partition("\n")[0])
    share = floor.share(batch, context, step_s, bytes_s) if bytes_s else 0.0
    return Row(batch, prompt, step_s, greedy_s, share)


def _median(engine: Engine, plans: Sequence[StepPlan]) -> float:
    """Return the time from one step's tokens to the next one's, with a step launched ahead."""
    runner = engine.runner
    times = []
    before: LaunchedStep | None = None
    for plan in plans:
        if isinstance(runner, DeviceRunner):
            launched = runner.launch(plan)
            if before is not None:
                runner.collect(before)
            before = launched
        else:
            runner.run(plan)
        times.append(time.perf_counter())
    if isinstance(runner, DeviceRunner) and before is not None:
        runner.collect(before)
    times = times[min(WARM_UP_STEPS, len(times) - 2) :]
    return statistics.median(b - a for a, b in itertools.pairwise(times))
