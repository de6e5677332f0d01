"""Models with compressed keys by our own kernels: bits, ranks, memory, long prompts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from torch import Tensor

from backend.config.errors import ModelError
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine
from backend.native import absence, kernels
from tests.backend.models.family_cases import TinyModel
from tests.backend.models.latent_cases import LATENT
from tests.backend.models.test_expert_kernels import QuantizingWriter
from tests.backend.models.tiny_engine import engine_of, logits_of, run, scheduler_of, sequence
from tests.backend.placement.test_footprint import _check
from tests.backend.tp_ranks import run_ranks

needs_kernels = pytest.mark.skipif(kernels is None, reason=absence)
CASE = LATENT["deepseek_v3"]
# Rows of 40 numbers; products of widths that our kernels fill up with nothing.
CASE = replace(
    CASE,
    fields=CASE.fields | {"hidden_size": 96, "max_position_embeddings": 1024, "v_head_dim": 32},
    num_tokens=700,
)
ROW = 32 + 8


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "GGUFWriter", QuantizingWriter)
        return TinyModel(CASE, tmp_path_factory.mktemp("latent"))


def ours(path: Path, tp: TensorParallel | None = None, **settings: Any) -> Engine:
    engine = engine_of(path, tp, dtype="bfloat16", block_size=32, **settings)
    assert "PyTorch" not in engine.kernels
    return engine


def assert_near(got: Tensor, expected: Tensor) -> None:
    """bf16 and a few layers: a router's choice may tip where two scores are as good as equal."""
    error = (got - expected).square().mean(-1).sqrt() / expected.std()
    assert error.median() < 0.03 and error.mean() < 0.1


def test_logits_of_long_prompts_are_those_of_transformers(tiny: TinyModel) -> None:
    """A token's logits are those of the prompt that ends with it: 1, 63, 64, 65 are of them."""
    engine = engine_of(tiny.path)
    for chunks in ([], [1, 62, 1, 1, 435]):
        got = logits_of(engine, tiny.prompt, chunks=chunks)
        torch.testing.assert_close(got, tiny.logits, rtol=1e-4, atol=2e-4)


@needs_kernels
@pytest.mark.parametrize("is_twin", [False, True])
def test_our_kernels_come_close_in_any_chunk(tiny: TinyModel, is_twin: bool) -> None:
    """Experts of the twin are in Q8_0. A token has the same bits in any chunk."""
    engine = ours(tiny.twin if is_twin else tiny.path)
    whole = logits_of(engine, tiny.prompt, block_size=32)
    assert_near(whole, tiny.logits)
    chunks = [1, 62, 1, 1, 435] if is_twin else [1, 62, 1, 1, 435, *[1] * 199]
    assert torch.equal(logits_of(engine, tiny.prompt, 32, chunks), whole)


@needs_kernels
def test_text_alone_is_that_among_others(tiny: TinyModel) -> None:
    engine = ours(tiny.path)
    params = {"temperature": 0.0, "max_tokens": 20, "ignore_eos": True, "logprobs": 1}
    prompts = [tiny.prompt[start : start + size] for start, size in ((0, 90), (7, 33), (60, 5))]

    def answers(*numbers: int) -> dict[int, list[int]]:
        scheduler = scheduler_of(engine, block_size=32, budget=48)
        return run(engine, scheduler, [sequence(n, prompts[n], **params) for n in numbers])

    together = answers(0, 1, 2)
    for number in range(3):
        assert answers(number) == {number: together[number]}


@needs_kernels
@pytest.mark.parametrize("expert_parallel", [False, True])
def test_ranks_keep_all_rows_and_share_the_heads(tiny: TinyModel, expert_parallel: bool) -> None:
    prompt = tiny.prompt[:200]

    def serve(tp: TensorParallel) -> tuple[int, Tensor]:
        engine = ours(tiny.path, tp, expert_parallel=expert_parallel)
        cache = engine.runner._kv_cache
        assert cache.layer(0).shape[1:] == (1, 1, 32, ROW)
        return engine.model.weight_bytes, logits_of(engine, prompt, block_size=32)

    whole = ours(tiny.path).model.weight_bytes
    ranks = run_ranks(2, serve)
    assert_near(torch.cat([logits for _, logits in ranks], dim=1), tiny.logits[:200])
    # The embedding, routers and what compresses are on every rank.
    assert all(held < 0.7 * whole for held, _ in ranks)


@needs_kernels
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("is_twin", [False, True])
def test_footprint_of_each_rank_is_what_it_holds(tiny: TinyModel, is_twin: bool, size: int) -> None:
    path = tiny.twin if is_twin else tiny.path
    run_ranks(size, lambda tp: _check(path, tp, dtype="bfloat16"))


def test_cache_of_a_token_is_a_row_of_each_layer(tiny: TinyModel) -> None:
    engine = engine_of(tiny.path, block_size=4, kv_cache_bytes=1 << 20)
    assert engine.num_blocks == (1 << 20) // (3 * 4 * ROW * 4)


@needs_kernels
def test_rows_in_8_bits_are_refused(tiny: TinyModel) -> None:
    with pytest.raises(ModelError, match="int8: deepseek_v3 keeps compressed keys"):
        ours(tiny.path, kv_cache_dtype="int8")


def test_layers_that_predict_further_tokens_are_left_out(tiny: TinyModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_bytes((tiny.path / "config.json").read_bytes())
    tensors = load_file(tiny.path / "model.safetensors")
    save_file(
        tensors | {"model.layers.61.eh_proj.weight": torch.ones(2, 2)}, path / "model.safetensors"
    )
    prompt = tiny.prompt[:8]
    got = logits_of(engine_of(path), prompt)
    torch.testing.assert_close(got, tiny.logits[:8], rtol=1e-4, atol=1e-4)
