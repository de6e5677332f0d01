"""T5, mT5 and UMT5, end to end inside one process, against transformers' float32 forward."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.config.errors import ModelError
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine, build_engine
from backend.native import absence, kernels
from backend.scheduler.sequence import Sequence
from backend.settings import EngineSettings
from backend.wire.control import Budget
from backend.wire.sampling import SamplingParams
from tests.backend.models.predicted_memory import held_bytes, predicted_bytes
from tests.backend.models.tiny_engine import engine_of, run, scheduler_of
from tests.backend.models.tiny_t5 import (
    CASES,
    GGUF_SIZES,
    DecoderRun,
    TinyT5,
    input_of,
    logits_of,
    write_gguf,
)
from tests.backend.tp_ranks import run_ranks

# Below, at and above the distances at which buckets end, and a block's 4 tokens.
LENGTHS = (1, 4, 5, 17, 45)


@pytest.fixture(scope="module", params=sorted(CASES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyT5:
    return TinyT5(CASES[request.param], tmp_path_factory.mktemp("t5") / "model")


@pytest.fixture(scope="module")
def flan(tmp_path_factory: pytest.TempPathFactory) -> TinyT5:
    return TinyT5(CASES["flan"], tmp_path_factory.mktemp("t5") / "model")


@pytest.fixture(scope="module")
def engine(model: TinyT5) -> Engine:
    return engine_of(model.path)


def test_plan_predicts_what_is_held(model: TinyT5, engine: Engine) -> None:
    """Of config.json alone, within 5 % of what is really allocated."""
    settings = {"kv_cache_bytes": 1 << 21, "block_size": 4}
    predicted = predicted_bytes(model.path, 1, "float32", "torch", **settings)
    assert predicted == pytest.approx(held_bytes(engine), rel=0.05)


def test_logits_of_many_lengths_in_one_step_are_transformers(model: TinyT5, engine: Engine) -> None:
    """fp32 in another order of sums: logits of about 4 agree to 1e-4."""
    inputs = [input_of(length, length) for length in LENGTHS]
    decoder_ids = [[0], [0], [0, *input_of(8)], [0, *input_of(29)], [0, 5]]
    runs: list[DecoderRun] = []
    for token_ids in inputs:
        runs.append(DecoderRun(token_ids, runs[-1].end_block if runs else 0))
    plans = [each.plan(ids) for each, ids in zip(runs, decoder_ids, strict=True)]
    wanted = [model.logits(ids, own) for ids, own in zip(inputs, decoder_ids, strict=True)]
    assert all(float(each.std()) > 0.1 for each in wanted), "logits differ clearly"
    torch.testing.assert_close(logits_of(engine, plans), torch.cat(wanted), rtol=1e-4, atol=1e-4)


def test_decode_and_chunks_give_the_logits_of_one_forward(model: TinyT5, engine: Engine) -> None:
    inputs, decoder_ids = input_of(11), [0, *input_of(37, 3)]
    wanted = model.logits(inputs, decoder_ids)
    for sizes in ([1] * 38, [5, 3, 30]):
        sequence = DecoderRun(inputs)
        parts, rest = [], list(decoder_ids)
        for number, size in enumerate(sizes):
            parts.append(logits_of(engine, [sequence.plan(rest[:size])], number + 1))
            rest = rest[size:]
        torch.testing.assert_close(torch.cat(parts), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_together_give_the_logits_of_one(size: int, exact: bool, model: TinyT5) -> None:
    inputs, decoder_ids = input_of(21), [0, *input_of(9)]

    def of_rank(engine: Engine) -> torch.Tensor:
        return logits_of(engine, [DecoderRun(inputs).plan(decoder_ids)])

    parts = run_ranks(size, lambda tp: of_rank(engine_of(model.path, tp, exact=exact)))
    wanted = model.logits(inputs, decoder_ids)
    torch.testing.assert_close(torch.cat(parts, dim=1), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["flan", "t5", "umt5"])
def test_gguf_files_give_the_same_logits(name: str, tmp_path: Path) -> None:
    case = replace(CASES[name], fields=CASES[name].fields | GGUF_SIZES)
    model = TinyT5(case, tmp_path / "model")
    write_gguf(tmp_path / "twin.gguf", model.path)
    inputs, decoder_ids = input_of(150), [0, *input_of(9)]
    found = logits_of(engine_of(tmp_path / "twin.gguf"), [DecoderRun(inputs).plan(decoder_ids)])
    wanted = model.logits(inputs, decoder_ids)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def sequence(number: int, inputs: list[int], output: list[int] | None = None, **params: Any) -> Any:
    told = SamplingParams(**{"temperature": 0.0, "max_tokens": 24, "stop_token_ids": [1], **params})
    return Sequence((0, number), [0, *(output or [])], 1, told, encoder_ids=inputs)


def test_greedy_text_is_that_of_generate(model: TinyT5, engine: Engine) -> None:
    """All at once, in steps of few tokens: some join while others decode."""
    inputs = [input_of(length, 7 * length) for length in (3, 9, 14, 22, 31, 40)]
    scheduler = scheduler_of(engine, budget=20)
    outputs = run(engine, scheduler, [sequence(n, ids) for n, ids in enumerate(inputs)])
    assert outputs == {n: model.generate(ids, 24) for n, ids in enumerate(inputs)}


def test_preempted_sequences_write_what_they_would_have(flan: TinyT5) -> None:
    engine = engine_of(flan.path, kv_cache_bytes=34 * 2 * 2 * 6 * 4 * 8 * 4)
    assert engine.num_blocks == 34
    inputs = [input_of(length, length) for length in (30, 20, 25)]
    scheduler = scheduler_of(engine, budget=64)
    outputs = run(
        engine, scheduler, [sequence(n, ids, max_tokens=40) for n, ids in enumerate(inputs)]
    )
    assert scheduler.num_preemptions > 0
    assert outputs == {n: flan.generate(ids, 40) for n, ids in enumerate(inputs)}


def test_resumed_sequence_goes_on_as_it_would_have(flan: TinyT5) -> None:
    engine, inputs = engine_of(flan.path), input_of(19)
    whole = flan.generate(inputs, 24)
    assert len(whole) == 24
    resumed = sequence(1, inputs, whole[:17])
    assert run(engine, scheduler_of(engine, budget=12), [resumed]) == {1: whole[17:]}


def test_seeded_answers_of_exact_mode_do_not_depend_on_the_batch(flan: TinyT5) -> None:
    engine = engine_of(flan.path, exact=True)

    def drawn(number: int) -> Any:
        return sequence(number, input_of(9 + number), temperature=1.0, seed=number)

    together = run(engine, scheduler_of(engine), [drawn(n) for n in range(6)])
    alone = {n: run(engine, scheduler_of(engine), [drawn(n)])[n] for n in range(6)}
    assert together == alone
    assert len({tuple(ids) for ids in alone.values()}) == 6


@pytest.mark.skipif(kernels is None, reason=absence)
def test_bfloat16_is_multiplied_by_our_kernels(flan: TinyT5) -> None:
    inputs, decoder_ids = input_of(21), [0, *input_of(9)]
    engine = engine_of(flan.path, dtype="bfloat16")
    found = logits_of(engine, [DecoderRun(inputs).plan(decoder_ids)])
    wanted = flan.logits(inputs, decoder_ids)
    assert float((found - wanted).abs().max()) < 0.15
    assert "attention by PyTorch: ours knows no relative positions" in engine.kernels


def test_what_the_start_says_of_weights_is_what_each_rank_holds(flan: TinyT5) -> None:
    def check(tp: TensorParallel) -> None:
        budgets: list[Budget] = []
        told = EngineSettings(
            model=str(flan.path), device="cpu", dtype="float32", block_size=4, tp=tp.size,
            kv_cache_bytes=1 << 21,
        )  # fmt: skip
        engine = build_engine(told, tp, lambda phase, fraction: None, budgets.append)
        (budget,) = budgets
        assert budget.weight_bytes + budget.packed_bytes == engine.model.weight_bytes
        # The whole of an input, of all that a sequence may have, at a time.
        assert budget.activation_bytes > engine.max_model_len * 4 * 32 * 4

    for size in (1, 2):
        run_ranks(size, check)


def test_float16_is_refused(flan: TinyT5) -> None:
    with pytest.raises(ModelError, match="--dtype float16: the sums of a t5 exceed its range"):
        engine_of(flan.path, dtype="float16")
