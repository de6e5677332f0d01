"""On a GPU nothing of a step waits for it: every family over a card that is strict and not there.

A decode is run as it is captured, where neither the host nor its tensors may take part; a prompt as
it is launched, where plans go over by upload() alone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensorDeviceMismatchError,
)

pytest.importorskip("triton", reason="Triton is not installed")

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.device_draws import create_draws
from backend.engine.device_queue import Ints
from backend.engine.device_runner import DeviceRunner
from backend.linear.triton.decode import iq4_nl_table
from backend.ops.upload import upload
from backend.placement.decode_sizes import DecodeSizes
from backend.quant.kept_weights import Quantization
from backend.step import Join, PlannedSequence, StepPlan, build_plan
from backend.wire.sampling import SamplingParams
from tests.backend.engine.fake_card import (
    BLOCK_SIZE,
    CARD,
    MAX_LEN,
    FakeCard,
    FakeModel,
    write_dummy,
)
from tests.backend.models.family_cases import FamilyCase
from tests.backend.models.test_families import CASES as DECODERS
from tests.backend.models.tiny_t5 import CASES as ENCODER_DECODERS
from tests.backend.models.tiny_t5 import SIZES as T5_SIZES

CASES = DECODERS | {
    name: FamilyCase(case.architecture, T5_SIZES | case.fields, is_whole=True)
    for name, case in ENCODER_DECODERS.items()
}


def all_but(*few: str) -> list[Any]:
    """Return every family, all but a few with the mark of what takes longer."""
    return [
        name if name in few else pytest.param(name, marks=pytest.mark.numerics)
        for name in sorted(CASES)
    ]


# Widths that blocks of 32 columns take.
WIDE = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
# Of a family whose heads are told otherwise.
WIDE_OF: dict[str, dict[str, int]] = {"flan": {}}
# Lengths of the prompts and decodes of steps: decodes alone of each size, and mixed.
LATER_STEPS = (
    [1], [1, 1], [1, 1, 1], [2, 3], [1, 5], [1, 1, 2], [17, 31, 33], [1, 48, 63], [1, 1, 3, 9],
    [2, 2, 2, 2], [1, 1, 1, 5], [1, 21, 21, 22],
)  # fmt: skip
# The presets' sampling, penalties, and what is scored.
PARAMS = [
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=1.0, top_p=0.95, top_k=20, seed=3),
    SamplingParams(temperature=0.7, repetition_penalty=1.2, no_repeat_ngram_size=3, logprobs=2),
]


class FakeGroup(TensorParallel):
    """Ranks of which the others say what this one says."""

    def all_gather(self, x: Tensor) -> Tensor:
        return torch.stack([x] * self.size)

    def agrees(self, claim: bool) -> bool:
        return claim


class FakeQueue:
    """The queue of a card: copies that nobody waits for."""

    device = CARD

    def stage(self, num_words: int) -> Ints:
        return np.zeros(num_words, np.int32)

    def send(self, words: Ints, target: Tensor) -> None:
        assert target.device == CARD and len(words) == len(target)

    def download(self, tensor: Tensor) -> "FakeDownload":
        assert tensor.device == CARD and tensor.dtype == torch.int32
        return FakeDownload(len(tensor))

    def record(self, work: Callable[[], None]) -> "FakeRecording":
        work()
        return FakeRecording()


class FakeRecording:
    def replay(self) -> None:
        pass


class FakeDownload:
    def __init__(self, length: int) -> None:
        self._length = length

    def wait(self) -> Ints:
        return np.zeros(self._length, np.int32)


def planned(start: int, length: int, row: int, model: FakeModel) -> PlannedSequence:
    """Return a sequence that runs tokens start .. start + length."""
    table = [*range(-(-(start + length) // BLOCK_SIZE))]
    segments = [(length, row if start else -1, row)] if model.has_states else []
    others = [table] * (max(1, model.cache.num_groups) - 1)
    of_input = (table, length, [5] * length * (not start)) if model.has_encoder else ([], 0, [])
    scored = [5] * (length - 1)  # of prompts, as some ask for
    return PlannedSequence(
        [5] * length, start, table, row, start, 0, scored, 2, others, *of_input, segments
    )


def plan_of(model: FakeModel, lengths: list[int], *, are_new: bool = True) -> StepPlan:
    """Of sequences that go on, but for the last: of an encoder-decoder, whose input is read."""
    last = len(lengths) - 1 if are_new and model.has_encoder else None
    sequences = [
        planned(0 if row == last else 20, length, row, model) for row, length in enumerate(lengths)
    ]
    joins = [Join(row, PARAMS[row % len(PARAMS)], [5, 6], 1) for row in range(len(lengths))]
    return build_plan(1, sequences, joins if are_new else [], BLOCK_SIZE)


def runner_of(model: FakeModel, tp: TensorParallel, rows: tuple[int, ...] = (4,)) -> DeviceRunner:
    draws = create_draws(model.model, 4, slice(0, model.num_vocab), [2], TensorParallel(), CARD)
    assert draws is not None
    draws.sampler._tp, draws.sampler._widths = tp, [model.num_vocab] * tp.size
    sizes = DecodeSizes(rows, (MAX_LEN,))
    return DeviceRunner(
        model.model,
        model.cache,
        draws.sampler,
        FakeQueue(),
        max_num_seqs=4,
        sizes=sizes,
        clears_blocks=False,
        draws=draws,
        tp=tp,
    )


@pytest.mark.parametrize("name", all_but("gpt_oss", "qwen3_next"))
def test_captured_decode_is_the_devices_alone(name: str, tmp_path: Path) -> None:
    card, path = FakeCard(), write_dummy(CASES[name], tmp_path)
    with card.runs():
        model = FakeModel(path)
        batch = model.captured_batch()
        card.captures = True
        with card.is_strict():
            hidden = model.model.forward(batch, model.cache)
    assert hidden.device == CARD and len(hidden) == 3
    assert card.num_launched


@pytest.mark.parametrize("name", all_but("deepseek_v3", "falcon_h1", "flan"))
def test_launch_of_a_step_waits_for_nothing(name: str, tmp_path: Path) -> None:
    """A prompt, a chunk and a decode, sampled each in its way, then decodes by graph."""
    card, path, tp = FakeCard(), write_dummy(CASES[name], tmp_path), TensorParallel()
    with card.runs():
        model = FakeModel(path)
        runner = runner_of(model, tp)
        assert runner._graphs is not None
        runner._graphs.capture()
        mixed, decodes = plan_of(model, [1, 7, 30]), plan_of(model, [1, 1, 1], are_new=False)
        with card.is_strict():
            runner.launch(mixed)
            runner.launch(decodes)


@pytest.mark.numerics
@pytest.mark.parametrize("quantization", ["int4", "int8"])
@pytest.mark.parametrize("kv_dtype", [torch.uint8, torch.int8])
def test_weights_and_keys_in_few_bits_stay_there(
    quantization: Quantization, kv_dtype: torch.dtype, tmp_path: Path
) -> None:
    card, path = FakeCard(), write_dummy(CASES["qwen3_moe"], tmp_path, **WIDE)
    with card.runs():
        iq4_nl_table.cache_clear()
        model = FakeModel(path, quantization=quantization, kv_dtype=kv_dtype)
        batch = model.captured_batch()
        model.model.forward(batch, model.cache)  # as before a capture: tables are made
        card.captures = True
        with card.is_strict():
            model.model.forward(batch, model.cache)
    iq4_nl_table.cache_clear()  # of a tensor that is none


@pytest.mark.numerics
@pytest.mark.parametrize("name", ["llama", "olmo2", "qwen3_next", "falcon_h1", "qwen3_moe"])
def test_ranks_of_a_group_wait_for_nothing(name: str, tmp_path: Path) -> None:
    card, path, tp = FakeCard(), write_dummy(CASES[name], tmp_path), FakeGroup(1, 2)
    with card.runs():
        model = FakeModel(path, tp=tp)
        runner = runner_of(model, tp)
        assert runner._graphs is not None
        runner._graphs.capture()
        mixed, decodes = plan_of(model, [1, 7, 30]), plan_of(model, [1, 1, 1], are_new=False)
        with card.is_strict():
            runner.launch(mixed)
            runner.launch(decodes)


@pytest.mark.numerics
@pytest.mark.parametrize(
    ("name", "quantization"),
    [("qwen3_next", "auto"), ("falcon_h1", "int4"), ("flan", "int4"), ("deepseek_v3", "auto")],
)
def test_later_steps_find_their_kernels_compiled(
    name: str, quantization: Quantization, tmp_path: Path
) -> None:
    """Steps waited for a compiler: where integers of a plan lie, and how many rows it has, made
    Triton compile states' kernels, the sampler's and linears' once more."""
    card, path = FakeCard(), write_dummy(CASES[name], tmp_path, **WIDE_OF.get(name, WIDE))
    with card.runs():
        iq4_nl_table.cache_clear()
        model = FakeModel(path, quantization=quantization)
        runner = runner_of(model, TensorParallel(), (1, 2, 4))
        assert runner._graphs is not None
        runner._graphs.capture()
        with card.is_strict():
            for lengths in ([1, 7, 30, 64], [16, 16, 16, 16]):
                runner.launch(plan_of(model, lengths))
            runner.launch(plan_of(model, [1, 1, 1, 1], are_new=False))
            known = {form: set(hints) for form, hints in card.variants.items()}
            for lengths in LATER_STEPS:
                runner.launch(plan_of(model, lengths, are_new=len(lengths) == 4))
    iq4_nl_table.cache_clear()
    more = {
        f"{form[0].__name__}: {hint}"  # type: ignore[attr-defined]
        for form, hints in card.variants.items()
        for each in hints - known.get(form, hints)
        for hint in set(each) - set().union(*known[form])
    }
    assert more == set()


def test_what_waits_is_found() -> None:
    """The card is strict: each of these would wait for a GPU, or die on one."""
    card = FakeCard()
    with card.runs():
        x, host = torch.zeros(3, device=CARD), torch.ones(3)
        waiting: tuple[Callable[[], object], ...] = (
            lambda: x + host,
            lambda: host.to(CARD),
            lambda: x.cpu(),
            lambda: x.copy_(host),
            lambda: torch.tensor([1, 2], device=CARD),
            lambda: x[torch.tensor([0, 1])],
        )
        for work in waiting:
            with pytest.raises((AssertionError, FakeTensorDeviceMismatchError)), card.is_strict():
                work()
        for read in (lambda: x.sum().item(), lambda: x.tolist(), lambda: bool(x.any())):
            with pytest.raises(DataDependentOutputException), card.is_strict():
                read()
        with card.is_strict():
            upload([1, 2], CARD)
        card.captures = True
        with pytest.raises(RuntimeError), card.is_strict():
            upload([1, 2], CARD)
