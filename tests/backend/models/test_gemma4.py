"""Gemma 4 over caches of several shapes: windows, shared keys, chunks, crowds, preemption."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from backend.config.load import load_config
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine, build_engine
from backend.layers.attention import AttentionStep, SelfAttention
from backend.models.decoder import Decoder
from backend.native import absence, kernels
from backend.settings import EngineSettings
from backend.wire.control import Budget
from tests.backend.models.family_cases import TinyModel
from tests.backend.models.gemma4_cases import GEMMA4
from tests.backend.models.tiny_engine import engine_of, logits_of, run, scheduler_of, sequence
from tests.backend.tp_ranks import run_ranks

NEEDS_KERNELS = pytest.mark.skipif(kernels is None, reason=absence)
# Sizes that our kernels take; windows end inside blocks.
_SIZES = {
    "hidden_size": 64,
    "head_dim": 16,
    "global_head_dim": 32,
    "sliding_window": 41,
    "max_position_embeddings": 1024,
}
CASES = {
    name: replace(
        GEMMA4[f"gemma4, {name}"], fields=GEMMA4[f"gemma4, {name}"].fields | _SIZES, num_tokens=700
    )
    for name in ("small", "large", "mixture")
}
CASES["small"].fields["hidden_size_per_layer_input"] = 32
ROUNDED: dict[str, Any] = {"dtype": "bfloat16", "kernels": "auto", "block_size": 16}


class QuantizingWriter(gguf.GGUFWriter):  # type: ignore[misc]  # its base is untyped
    """Writes the table of what layers are told in blocks of 8 bits."""

    def add_tensor(self, name: str, tensor: npt.NDArray[np.float32], **options: Any) -> None:
        if name == "per_layer_token_embd.weight":
            kind = gguf.GGMLQuantizationType.Q8_0
            tensor, options["raw_dtype"] = gguf.quants.quantize(tensor, kind), kind
        super().add_tensor(name, tensor, **options)


@pytest.fixture(scope="module", params=sorted(CASES))
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "GGUFWriter", QuantizingWriter)
        return TinyModel(CASES[request.param], tmp_path_factory.mktemp("gemma4"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyModel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "GGUFWriter", QuantizingWriter)
        yield TinyModel(CASES["small"], tmp_path_factory.mktemp("gemma4"))


def error_of(got: Tensor, expected: Tensor) -> float:
    """The median over tokens, in standard deviations of the logits."""
    return float((got - expected).square().mean(-1).sqrt().median() / expected.std())


def assert_rounded(got: Tensor, tiny: TinyModel) -> None:
    """Logits of the first tokens are off by no more than transformers' own in bfloat16: scores
    without a scale are far apart, and make much of what is rounded."""
    model = copy.deepcopy(tiny._model).bfloat16()
    with torch.inference_mode():
        theirs = model(torch.tensor([tiny.prompt[: len(got)]]), use_cache=False).logits[0].float()
    expected = tiny.logits[: len(got)]
    assert error_of(got, expected) < 1.3 * error_of(theirs, expected) < 0.2


@pytest.mark.parametrize("length", [1, 63, 64, 65, 700])
def test_prompts_of_any_length_in_any_chunks(tiny: TinyModel, length: int) -> None:
    """float32: 1e-3 at 700 tokens, 1e-4 at 100."""
    engine = engine_of(tiny.path, kv_cache_bytes=1 << 24)
    prompt, expected = tiny.prompt[:length], tiny.logits[:length]
    for chunks in ([], [length // 3, 1, length // 2 - length // 3] if length > 9 else []):
        got = logits_of(engine, prompt, chunks=chunks)
        torch.testing.assert_close(got, expected, rtol=2e-3, atol=2e-3)


@NEEDS_KERNELS
def test_our_kernels_have_the_same_bits_in_any_chunks(tiny: TinyModel) -> None:
    engine = engine_of(tiny.path, **ROUNDED, kv_cache_bytes=1 << 24)
    assert "PyTorch" not in engine.kernels
    prompt = tiny.prompt[:150]
    whole = logits_of(engine, prompt, 16)
    assert_rounded(whole, tiny)
    assert torch.equal(logits_of(engine, prompt, 16, [37, 1, 30, 63, 1]), whole)


@NEEDS_KERNELS
@pytest.mark.parametrize("settings", [{}, {"kv_cache_dtype": "int8"}])
def test_text_does_not_depend_on_the_batch(small: TinyModel, settings: dict[str, Any]) -> None:
    """Alone in one chunk, and in a crowd, in chunks, with too few blocks for all."""
    mine = dict(temperature=1.0, max_tokens=40, seed=9, ignore_eos=True)
    alone_engine = engine_of(small.path, **ROUNDED, **settings, kv_cache_bytes=1 << 24)
    scheduler = scheduler_of(alone_engine, 16, budget=512)
    [alone] = run(alone_engine, scheduler, [sequence(0, small.prompt[:130], **mine)]).values()
    others = [
        sequence(n, small.prompt[n : 30 + 9 * n], temperature=1.0, seed=n, max_tokens=70)
        for n in range(1, 8)
    ]
    crowd = [*others[:4], sequence(0, small.prompt[:130], **mine), *others[4:]]
    engine = few_blocks(small.path, 30, **ROUNDED, **settings)
    scheduler = scheduler_of(engine, 16, budget=48)
    assert run(engine, scheduler, crowd)[0] == alone
    assert scheduler.num_preemptions > 0
    scheduler.check()


def few_blocks(path: Path, num_blocks: int, **settings: Any) -> Engine:
    """Return an engine that has so many blocks."""
    probe = engine_of(path, **settings)
    block_bytes = probe.kv_bytes // probe.num_blocks
    engine = engine_of(path, **settings, kv_cache_bytes=num_blocks * block_bytes)
    assert engine.num_blocks == num_blocks
    return engine


def test_two_hundred_tokens_are_those_of_transformers(tiny: TinyModel) -> None:
    """Greedy, over a prefix from the cache; what it says is looked at in one forward."""
    engine = engine_of(tiny.path, kv_cache_bytes=1 << 24)
    scheduler = scheduler_of(engine, budget=50)
    params = dict(temperature=0.0, ignore_eos=True)
    run(engine, scheduler, [sequence(0, tiny.prompt[:100], **params, max_tokens=1)])
    asked = sequence(1, tiny.prompt[:80], **params, max_tokens=200)
    text = run(engine, scheduler, [asked])[1]
    assert asked.num_cached_tokens >= 64
    expected = tiny.logits_of([*tiny.prompt[:80], *text[:-1]])[79:]
    best = expected.max(-1).values
    chosen = expected.gather(1, torch.tensor(text)[:, None])[:, 0]
    assert float((best - chosen).max()) < 1e-4 and len(text) == 200


def test_shared_layers_run_the_tokens_that_are_read(
    small: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that reads nothing of a chunk leaves out the layers behind the last keys."""
    engine = engine_of(small.path, kv_cache_bytes=1 << 24)
    assert isinstance(engine.model, Decoder)
    attention = engine.model._layers[max(engine.model._layers)]._attention
    assert isinstance(attention, SelfAttention)
    seen: list[int] = []

    def forward(x: Tensor, step: AttentionStep) -> Tensor:
        seen.append(len(x))
        return SelfAttention.forward(attention, x, step)

    monkeypatch.setattr(attention, "forward", forward)
    scheduler = scheduler_of(engine, budget=60)
    asked = [sequence(n, small.prompt[n : 100 + n], temperature=0.0, max_tokens=3) for n in (0, 1)]
    texts = run(engine, scheduler, asked)
    assert max(seen) <= 2
    for n in (0, 1):
        expected = small.greedy(small.prompt[n : 100 + n], 3)
        assert texts[n] == expected[: len(texts[n])]


@NEEDS_KERNELS
def test_table_of_a_file_stays_in_its_bits_and_is_shared(small: TinyModel) -> None:
    """Each of the ranks has some tokens' rows of it; what is planned is what is held."""

    def serve(tp: TensorParallel) -> tuple[int, int, Tensor]:
        told: list[Budget] = []
        settings = EngineSettings(
            model=str(small.twin), tp=tp.size, device="cpu", kv_cache_bytes=1 << 24, **ROUNDED
        )
        engine = build_engine(settings, tp, lambda phase, fraction: None, told.append)
        assert not told[0].expanded
        planned = told[0].weight_bytes + told[0].packed_bytes
        logits = logits_of(engine, small.prompt[:100], 16)
        return planned, engine.model.weight_bytes, logits

    config = load_config(small.twin)
    table = config.vocab_size * config.num_layers * 32 * 34 // 32
    [(planned, held, _)] = run_ranks(1, serve)
    assert planned == held
    ranks = run_ranks(3, serve)
    assert_rounded(torch.cat([logits for *_, logits in ranks], dim=1), small)
    assert all(planned == held_too for planned, held_too, _ in ranks)
    assert all(held_too < held - table // 2 for _, held_too, _ in ranks)
