"""gpt_oss with experts in MXFP4: kept in their bits, over ranks, in any chunking; long prompts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.config.errors import ModelError
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine, build_engine
from backend.native import absence, kernels
from backend.settings import EngineSettings
from backend.wire.control import Budget
from tests.backend.models.gpt_oss_cases import FIELDS, GPT_OSS
from tests.backend.models.mxfp4_model import Mxfp4Model
from tests.backend.models.tiny_engine import engine_of, logits_of, run, scheduler_of, sequence
from tests.backend.tp_ranks import run_ranks

CASE = replace(
    GPT_OSS["gpt_oss, yarn"],
    fields=GPT_OSS["gpt_oss, yarn"].fields
    | {"sliding_window": 128, "max_position_embeddings": 1024},
    num_tokens=700,
)
needs_kernels = pytest.mark.skipif(kernels is None, reason=absence)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Mxfp4Model:
    with pytest.MonkeyPatch.context() as patch:
        return Mxfp4Model(CASE, tmp_path_factory.mktemp("gpt_oss"), patch)


def ours(path: Path, tp: TensorParallel | None = None, **settings: Any) -> Engine:
    engine = engine_of(path, tp, dtype="bfloat16", block_size=32, **settings)
    assert "PyTorch" not in engine.kernels
    return engine


def plain(path: Path, tp: TensorParallel | None = None) -> Engine:
    return engine_of(path, tp)


def assert_near(got: Tensor, expected: Tensor) -> None:
    """bf16 and a few layers: a router's choice may tip where two scores are as good as equal."""
    error = (got - expected).square().mean(-1).sqrt() / expected.std()
    assert error.median() < 0.03 and error.mean() < 0.06


@pytest.mark.parametrize("is_twin", [False, True])
def test_logits_of_long_prompts_are_those_of_transformers(tiny: Mxfp4Model, is_twin: bool) -> None:
    """A token's logits are those of the prompt that ends with it: 1, 63, 64, 65 are of them."""
    engine = plain(tiny.twin if is_twin else tiny.path)
    for chunks in ([], [1, 62, 1, 1, 435]):
        got = logits_of(engine, tiny.prompt, chunks=chunks)
        torch.testing.assert_close(got, tiny.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_together_give_the_logits_of_one(tiny: Mxfp4Model, size: int) -> None:
    prompt = tiny.prompt[:200]
    parts = run_ranks(size, lambda tp: logits_of(plain(tiny.path, tp), prompt))
    torch.testing.assert_close(torch.cat(parts, dim=1), tiny.logits[:200], rtol=1e-4, atol=1e-4)


@needs_kernels
def test_our_kernels_come_close_and_directory_and_twin_are_equal(tiny: Mxfp4Model) -> None:
    prompt = tiny.prompt
    got = logits_of(ours(tiny.path), prompt, block_size=32)
    assert_near(got, tiny.logits)
    assert torch.equal(logits_of(ours(tiny.twin), prompt, block_size=32), got)


@needs_kernels
def test_token_has_the_same_bits_in_any_chunk(tiny: Mxfp4Model) -> None:
    engine = ours(tiny.path)
    whole = logits_of(engine, tiny.prompt, block_size=32)
    for chunks in ([1, 63, 64, 65, 7], [500, *[1] * 199]):
        assert torch.equal(logits_of(engine, tiny.prompt, 32, chunks), whole)


@needs_kernels
def test_text_alone_is_that_among_others(tiny: Mxfp4Model) -> None:
    engine = ours(tiny.path)
    params = {"temperature": 0.0, "max_tokens": 20, "ignore_eos": True}
    prompts = [tiny.prompt[start : start + size] for start, size in ((0, 190), (7, 33), (60, 5))]

    def answers(*numbers: int) -> dict[int, list[int]]:
        scheduler = scheduler_of(engine, block_size=32, budget=48)
        return run(engine, scheduler, [sequence(n, prompts[n], **params) for n in numbers])

    together = answers(0, 1, 2)
    for number in range(3):
        assert answers(number) == {number: together[number]}


@needs_kernels
@pytest.mark.parametrize("expert_parallel", [False, True])
@pytest.mark.parametrize("is_twin", [False, True])
def test_experts_stay_in_the_bits_of_the_file_on_each_rank(
    tiny: Mxfp4Model, is_twin: bool, expert_parallel: bool
) -> None:
    path, prompt = tiny.twin if is_twin else tiny.path, tiny.prompt[:200]

    def serve(tp: TensorParallel) -> tuple[int, Tensor]:
        engine = ours(path, tp, expert_parallel=expert_parallel)
        return engine.model.weight_bytes, logits_of(engine, prompt, block_size=32)

    whole = ours(path).model.weight_bytes
    dense = ours(path, quantization="none").model.weight_bytes
    experts = 3 * 6 * 3 * 96 * 96
    assert dense - whole == pytest.approx(experts * (2 - 17 / 32), rel=0.01)
    ranks = run_ranks(3, serve)
    assert_near(torch.cat([logits for _, logits in ranks], dim=1), tiny.logits[:200])
    assert all(held < whole / 2 for held, _ in ranks)


@needs_kernels
def test_columns_that_are_cut_inside_a_block_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Experts of one block each, which two ranks can share by bits alone, or whole."""
    fields = FIELDS | {"intermediate_size": 32, "num_hidden_layers": 1}
    path = Mxfp4Model(replace(CASE, fields=fields, num_tokens=8), tmp_path, monkeypatch).path

    def expanded(tp: TensorParallel, expert_parallel: bool) -> tuple[str, ...]:
        told: list[Budget] = []
        settings = EngineSettings(
            model=str(path),
            tp=2,
            device="cpu",
            dtype="bfloat16",
            kv_cache_bytes=1 << 21,
            expert_parallel=expert_parallel,
        )
        build_engine(settings, tp, lambda phase, fraction: None, told.append)
        return told[0].expanded

    for [line] in run_ranks(2, lambda tp: expanded(tp, False)):
        assert line.startswith("expanded to bfloat16: mlp.experts.*.down_proj (")
        assert line.endswith("is inside a block of 32; --expert-parallel cuts none")
    assert run_ranks(2, lambda tp: expanded(tp, True)) == [(), ()]


def test_experts_in_mxfp4_are_our_own_decoders_alone(tiny: Mxfp4Model) -> None:
    with pytest.raises(ModelError, match=r"experts in MXFP4 .*\nleave --model-impl out"):
        engine_of(tiny.path, model_impl="transformers")
