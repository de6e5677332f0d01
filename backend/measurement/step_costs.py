"""What a step costs beside its products, from steps of models that have next to none.

Each cost is the difference of two steps that differ in one thing: layers, rows, context, hidden
units, what is sampled. Plans are made by the real scheduler for decodes and by hand for prompts.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from backend import native
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine, build_engine
from backend.engine.platform import DTYPES, resolve_device, resolve_dtype, select_level
from backend.linear.native import NativeKernel
from backend.linear.onednn import OneDnnKernel
from backend.measurement.timing import seconds_of, seconds_of_each
from backend.measurement.tiny_model import HEAD_DIM, MAX_MODEL_LEN, write_tiny_llama
from backend.native.level import LEVELS
from backend.quant.rounding import quantize_int8
from backend.quant.weight_format import WeightFormat
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.prefill_budget import PrefillLimit
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from backend.settings import EngineSettings
from backend.step import Join, PlannedSequence, StepPlan, build_plan
from backend.wire.sampling import SamplingParams

BLOCK_SIZE = 32
GREEDY = SamplingParams(temperature=0.0)
SAMPLED = SamplingParams(temperature=1.0, seed=1)
KV_BYTES = 1 << 28
FEW_LAYERS, MANY_LAYERS = 4, 24
MANY_ROWS, SAMPLED_ROWS = 64, 16
# Neither begins a block, which would be cleared: one step in BLOCK_SIZE does.
SHORT_CONTEXT, LONG_CONTEXT = 72, 776
HEADS, KV_HEADS = 8, 2
WIDE, WIDE_HEADS, WIDE_LAYERS, WIDE_TOKENS = 256, 4, 8, 256
LARGE_VOCAB = 65_536
# Tokens of a step of prompts: of one, or of so many that each sees few of the others.
PROMPT, MANY_PROMPTS = 1024, 8
BUDGET_S = 0.25
# A server does other things between two steps: code and data are read anew from outside of a core.
COLD_BYTES = 16 << 20
FEW_TOKENS = 4


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Seconds, and rates for what is done to keys and values; by the names of DeviceProfile."""

    step_overhead_s: float
    layer_overhead_s: float
    prompt_layer_overhead_s: float
    row_overhead_s: float
    element_overhead_s: float
    logit_overhead_s: float
    attention_bandwidth: float
    attention_rate: float


class TinyEngine:
    """A tiny model and how long its steps take."""

    def __init__(self, path: Path, settings: EngineSettings, *, layers: int, **shape: int) -> None:
        """settings: what computes; shape: of write_tiny_llama()."""
        write_tiny_llama(path, layers=layers, **shape)
        self._engine: Engine = build_engine(
            _for_model(settings, path), TensorParallel(), lambda phase, fraction: None
        )
        self._others = torch.ones(COLD_BYTES // 4)

    def decode_s(self, rows: int, context: int, params: SamplingParams = GREEDY) -> float:
        """Seconds of a step of `rows` sequences of one token with a context."""
        return seconds_of(self.decodes(rows, context, params), BUDGET_S, before=self.others)

    def decodes(
        self, rows: int, context: int, params: SamplingParams = GREEDY
    ) -> Callable[[], None]:
        """Return what runs a step of `rows` sequences of one token with a context."""
        width = context // BLOCK_SIZE + 1
        sequences = [
            PlannedSequence([row + 10], context, _table(row, width), row, 0) for row in range(rows)
        ]
        joins = [Join(row, params) for row in range(rows)]
        self._engine.runner.run(build_plan(0, sequences, joins, BLOCK_SIZE))
        return self._step(build_plan(1, sequences, [], BLOCK_SIZE))

    def prompts(self, count: int, length: int) -> Callable[[], None]:
        """Return what runs a step of so many prompts of a length."""
        tokens = [7 * place % 400 + 10 for place in range(length)]
        width = length // BLOCK_SIZE + 1
        sequences = [PlannedSequence(tokens, 0, _table(n, width), n, 0) for n in range(count)]
        joins = [Join(n, GREEDY) for n in range(count)]
        return self._step(build_plan(0, sequences, joins, BLOCK_SIZE))

    def others(self) -> None:
        """Do what a server does between two steps, in the caches."""
        self._others.sum()

    def _step(self, plan: StepPlan) -> Callable[[], None]:
        def step() -> None:
            self._engine.runner.run(plan)
            if self._engine.device.type == "cuda":
                torch.cuda.synchronize(self._engine.device)

        return step


def step_costs(settings: EngineSettings, threads: int) -> StepCosts:
    """Measure with so many threads. settings: device, dtype, kernels and activations; the rest is
    not looked at."""
    torch.set_num_threads(threads)
    native.set_num_threads(threads)
    planned_s, planned_row_s = scheduler_costs()
    with tempfile.TemporaryDirectory(prefix="unisono-measure-") as directory:
        folder = Path(directory)
        few = TinyEngine(folder / "few", settings, layers=FEW_LAYERS)
        many = TinyEngine(folder / "many", settings, layers=MANY_LAYERS)
        base_s, many_s = seconds_of_each(
            [each.decodes(1, SHORT_CONTEXT) for each in (few, many)], BUDGET_S, before=few.others
        )
        layer_s = _slope(base_s, many_s, MANY_LAYERS - FEW_LAYERS)
        few_s, many_s = seconds_of_each(
            [each.prompts(1, FEW_TOKENS) for each in (few, many)], BUDGET_S, before=few.others
        )
        prompt_layer_s = _slope(few_s, many_s, MANY_LAYERS - FEW_LAYERS)
        row_s = _slope(base_s, few.decode_s(MANY_ROWS, SHORT_CONTEXT), MANY_ROWS - 1)
        heads = TinyEngine(
            folder / "heads", settings, layers=FEW_LAYERS, heads=HEADS, kv_heads=KV_HEADS
        )
        step_s = max(0.0, base_s - FEW_LAYERS * layer_s - row_s)
        known = PromptCosts(step_s, prompt_layer_s, _attention_rate(heads))
        vocab = TinyEngine(folder / "vocab", settings, layers=1, vocab_size=LARGE_VOCAB)
        return StepCosts(
            step_overhead_s=step_s + planned_s,
            layer_overhead_s=layer_s,
            prompt_layer_overhead_s=prompt_layer_s,
            row_overhead_s=row_s + planned_row_s,
            element_overhead_s=_element_s(settings, folder, known),
            attention_bandwidth=_attention_bandwidth(heads),
            attention_rate=known.attention_rate,
            logit_overhead_s=_slope(
                vocab.decode_s(SAMPLED_ROWS, SHORT_CONTEXT),
                vocab.decode_s(SAMPLED_ROWS, SHORT_CONTEXT, SAMPLED),
                SAMPLED_ROWS * LARGE_VOCAB,
            ),
        )


def scheduler_costs() -> tuple[float, float]:
    """Return the seconds of planning a step and committing it, and of each sequence in it."""
    one, many = _scheduling_s(1), _scheduling_s(MANY_ROWS)
    row_s = _slope(one, many, MANY_ROWS - 1)
    return max(0.0, one - row_s), row_s


def _scheduling_s(rows: int) -> float:
    scheduler = Scheduler(
        BlockPool(rows * MAX_MODEL_LEN // BLOCK_SIZE, BLOCK_SIZE),
        max_num_seqs=rows,
        max_num_batched_tokens=max(rows, 512),
        max_model_len=MAX_MODEL_LEN,
        vocab_size=1 << 16,
    )
    params = SamplingParams(max_tokens=MAX_MODEL_LEN - 8)
    for row in range(rows):
        scheduler.add(Sequence((0, row), [row] * 8, 8, params))

    def step() -> None:
        plan = scheduler.schedule(PrefillLimit(64))
        assert plan is not None
        scheduler.commit(plan, [7] * len(scheduler.sampled))

    return seconds_of(step, least=100)


def _element_s(settings: EngineSettings, folder: Path, prompt: "PromptCosts") -> float:
    """Seconds of all that is done to a hidden unit of a token in a layer, but products: norms,
    rotations, gates, sums, and what attention does to a token whatever it sees.

    It is what is left of a prompt's time without its products, which are measured by themselves,
    with weights of 8 bits where there are kernels for them: so products are half of it, not all.
    """
    native_level = _native_level(settings)
    rounded = msgspec.structs.replace(
        settings,
        quantization="int8" if native_level else "none",
        activations="int8" if native_level else "auto",
    )
    wide = TinyEngine(
        folder / "wide", rounded, layers=WIDE_LAYERS, hidden=WIDE, heads=WIDE_HEADS, kv_heads=2
    )
    whole_s, products_s = seconds_of_each(
        [wide.prompts(1, WIDE_TOKENS), _products(settings)], BUDGET_S, before=wide.others
    )
    left_s = whole_s - products_s
    left_s -= prompt.step_s + WIDE_LAYERS * prompt.layer_s
    left_s -= _attention_operations(WIDE_HEADS, WIDE_LAYERS, WIDE_TOKENS) / prompt.attention_rate
    return max(0.0, left_s) / (WIDE_TOKENS * WIDE_LAYERS * WIDE)


class PromptCosts(NamedTuple):
    """What of a prompt's time is known already."""

    step_s: float
    layer_s: float
    attention_rate: float


def _native_level(settings: EngineSettings) -> bool:
    device = resolve_device(settings.device, 0)
    return select_level(settings, DTYPES[resolve_dtype(settings, device)], device) in LEVELS


def _products(settings: EngineSettings) -> Callable[[], None]:
    """Return what makes the products of all layers of the wide model."""
    device = resolve_device(settings.device, 0)
    dtype = DTYPES[resolve_dtype(settings, device)]
    width = WIDE_HEADS * HEAD_DIM
    shapes = [(width + 4 * HEAD_DIM, WIDE), (WIDE, width), (2 * WIDE, WIDE), (WIDE, WIDE)]
    calls: list[Callable[[], object]] = []
    for n, k in shapes:
        x = torch.randn(WIDE_TOKENS, k, device=device).to(dtype)
        weight = torch.randn(n, k, device=device).to(dtype)
        if _native_level(settings):
            eight = NativeKernel(WeightFormat.Q8_0, "int8")
            packed = eight.pack(quantize_int8(weight))
            calls.append(partial(eight.apply, x, packed, None))
        else:
            dense = OneDnnKernel(dtype, device)
            calls.append(partial(dense.apply, x, dense.pack(weight), None))

    def multiply() -> None:
        for _ in range(WIDE_LAYERS):
            for call in calls:
                call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return multiply


def _attention_bandwidth(heads: TinyEngine) -> float:
    """Bytes/s of keys and values that rows of one token attend to, several query heads to each.

    They are more than caches hold.
    """
    short_s, long_s = (heads.decode_s(MANY_ROWS, n) for n in (SHORT_CONTEXT, LONG_CONTEXT))
    keys = MANY_ROWS * (LONG_CONTEXT - SHORT_CONTEXT) * FEW_LAYERS
    return keys * 2 * KV_HEADS * HEAD_DIM * 2 / max(long_s - short_s, 1e-9)


def _attention_rate(heads: TinyEngine) -> float:
    """Operations/s of that part of a prompt's time that grows with the square of its length: as
    many tokens of short prompts take all else as well."""
    one = heads.prompts(1, PROMPT)
    many = heads.prompts(MANY_PROMPTS, PROMPT // MANY_PROMPTS)
    one_s, many_s = seconds_of_each([one, many], 2 * BUDGET_S, before=heads.others)
    square_s = (one_s - many_s) / (1 - 1 / MANY_PROMPTS)
    return _attention_operations(HEADS, FEW_LAYERS, PROMPT) / max(square_s, 1e-6)


def _attention_operations(heads: int, layers: int, length: int) -> float:
    """Half of all pairs of a query and a key; a multiply-add for the score, one for the value."""
    return 2 * 2 * heads * HEAD_DIM * layers * length * length / 2


def _slope(first: float, second: float, distance: float) -> float:
    return max(0.0, second - first) / distance


def _table(row: int, width: int) -> list[int]:
    return [*range(row * width, (row + 1) * width)]


def _for_model(settings: EngineSettings, path: Path) -> EngineSettings:
    return EngineSettings(
        model=str(path),
        device=settings.device,
        dtype=settings.dtype,
        kernels=settings.kernels,
        activations=settings.activations,
        quantization=settings.quantization,
        kv_cache_bytes=KV_BYTES,
        max_num_batched_tokens=PROMPT,
        block_size=BLOCK_SIZE,
    )
