"""Experts in bf16 and in few bits, by our own kernels: in the file's bits, whole or shared out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine, build_engine
from backend.native import absence, kernels
from backend.settings import EngineSettings
from backend.wire.control import Budget
from tests.backend.models.expert_cases import EXPERTS
from tests.backend.models.family_cases import TinyModel
from tests.backend.models.tiny_engine import engine_of, logits_of
from tests.backend.tp_ranks import run_ranks

pytestmark = pytest.mark.skipif(kernels is None, reason=absence)

CASES = ["qwen2_moe", "qwen3_moe", "granitemoe, shared", "mixtral"]


@pytest.fixture(scope="module", params=CASES)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Heads of 16, which our attention takes; experts of the twin in Q8_0."""
    case = EXPERTS[request.param]
    case = replace(case, fields=case.fields | {"hidden_size": 96})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "GGUFWriter", QuantizingWriter)
        return TinyModel(case, tmp_path_factory.mktemp("experts"))


class QuantizingWriter(gguf.GGUFWriter):  # type: ignore[misc]  # its base is untyped
    """Writes stacks of experts in blocks of 8 bits."""

    def add_tensor(self, name: str, tensor: npt.NDArray[np.float32], **options: Any) -> None:
        if name.endswith("_exps.weight"):
            kind = gguf.GGMLQuantizationType.Q8_0
            tensor = gguf.quants.quantize(tensor, kind)
            options["raw_dtype"] = kind
        super().add_tensor(name, tensor, **options)


def ours(path: Path, tp: TensorParallel | None = None, **settings: Any) -> Engine:
    engine = engine_of(path, tp, dtype="bfloat16", block_size=32, **settings)
    assert "PyTorch" not in engine.kernels
    return engine


def assert_near(got: Tensor, expected: Tensor) -> None:
    """bf16 and a few layers: a router's choice may tip where two scores are as good as equal."""
    error = (got - expected).square().mean(-1).sqrt() / expected.std()
    assert error.median() < 0.03 and error.mean() < 0.06


@pytest.mark.parametrize("is_twin", [False, True])
def test_logits_are_near_those_of_transformers(tiny: TinyModel, is_twin: bool) -> None:
    path = tiny.twin if is_twin else tiny.path
    assert_near(logits_of(ours(path), tiny.prompt, block_size=32), tiny.logits)


def test_token_has_the_same_bits_in_any_chunk(tiny: TinyModel) -> None:
    engine = ours(tiny.twin)
    whole = logits_of(engine, tiny.prompt, block_size=32)
    chunks = logits_of(engine, tiny.prompt, block_size=32, chunks=[5, 13, 1, 1, 1])
    assert torch.equal(chunks, whole)


@pytest.mark.parametrize("expert_parallel", [False, True])
def test_experts_stay_in_the_bits_of_the_file_on_each_rank(
    tiny: TinyModel, expert_parallel: bool
) -> None:
    def serve(tp: TensorParallel) -> tuple[int, Tensor]:
        engine = ours(tiny.twin, tp, expert_parallel=expert_parallel)
        logits = logits_of(engine, tiny.prompt, block_size=32)
        return engine.model.weight_bytes, logits

    whole = ours(tiny.twin).model.weight_bytes
    assert whole < ours(tiny.path).model.weight_bytes * 0.7
    ranks = run_ranks(3, serve)
    assert_near(torch.cat([logits for _, logits in ranks], dim=1), tiny.logits)
    # The embedding, norms and routers are on every rank.
    assert all(held < whole / 2 for held, _ in ranks)


def test_cut_inside_a_block_says_what_cuts_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Experts of one block each, which two ranks can share by bits alone, or whole."""
    case = EXPERTS["qwen3_moe"]
    fields = case.fields | {"hidden_size": 96, "moe_intermediate_size": 32}
    monkeypatch.setattr(gguf, "GGUFWriter", QuantizingWriter)
    path = TinyModel(replace(case, fields=fields), tmp_path).twin

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
        assert line.startswith("expanded to bfloat16: mlp.experts.*.down_proj of 2 layers (")
        assert line.endswith("is inside a block of 32; --expert-parallel cuts none")
    assert run_ranks(2, lambda tp: expanded(tp, True)) == [(), ()]
