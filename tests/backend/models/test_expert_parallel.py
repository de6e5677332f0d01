"""Experts over ranks: whole ones, or columns of each; what a rank holds of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backend.config.errors import ModelError
from backend.distributed.tensor_parallel import TensorParallel
from backend.native import absence, kernels
from backend.settings import EngineSettings
from tests.backend.models.expert_cases import EXPERTS
from tests.backend.models.family_cases import FamilyCase, TinyModel
from tests.backend.models.llama_like_cases import LLAMA_LIKE
from tests.backend.models.tiny_engine import engine_of, logits_of
from tests.backend.placement.test_footprint import _check
from tests.backend.tp_ranks import run_ranks

CASES = ["qwen2_moe", "qwen3_moe, dense layers and windows", "granitemoe, shared"]


@pytest.fixture(scope="module", params=CASES)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Heads of 16: what a rank holds is a multiple of what the kernels take together."""
    case = EXPERTS[request.param]
    case = replace(case, fields=case.fields | {"hidden_size": 96})
    return TinyModel(case, tmp_path_factory.mktemp("experts"))


@pytest.mark.parametrize("size", [2, 3])
def test_whole_experts_on_ranks_give_the_logits_of_one(tiny: TinyModel, size: int) -> None:
    for path in [tiny.path] + [tiny.twin] * (tiny.case.twin is not None):

        def logits(tp: TensorParallel, path: Path = path) -> torch.Tensor:
            return logits_of(engine_of(path, tp, expert_parallel=True), tiny.prompt)

        got = torch.cat(run_ranks(size, logits), dim=1)
        torch.testing.assert_close(got, tiny.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("expert_parallel", [False, True])
@pytest.mark.parametrize("quantization", ["auto", "int4"])
@pytest.mark.skipif(kernels is None, reason=absence)
def test_footprint_of_each_rank_is_what_it_holds(
    tiny: TinyModel, expert_parallel: bool, quantization: str
) -> None:
    def check(tp: TensorParallel) -> None:
        _check(
            tiny.path,
            tp,
            expert_parallel=expert_parallel,
            quantization=quantization,
            dtype="bfloat16",
        )

    run_ranks(2, check)


def test_each_rank_holds_its_share_of_the_experts(tmp_path: Path) -> None:
    """Progress comes to its end, too: nobody waits for tensors that are another rank's."""
    tiny = TinyModel(EXPERTS["mixtral"], tmp_path)

    def held(tp: TensorParallel) -> int:
        return engine_of(tiny.path, tp, expert_parallel=True).model.weight_bytes

    whole = engine_of(tiny.path).model.weight_bytes
    layers, experts, expert_bytes = 2, 6, 3 * 48 * 96 * 4
    for size in run_ranks(3, held):
        assert size <= whole - layers * experts * expert_bytes * 2 // 3


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (EXPERTS["mixtral, window"], "the 4 experts .* evenly over 3 ranks\nuse a --tp that divid"),
        (LLAMA_LIKE["qwen2"], "has no experts; serve it without"),
    ],
)
def test_experts_that_cannot_be_shared_out_are_refused(
    case: FamilyCase, words: str, tmp_path: Path
) -> None:
    from backend.config.load import load_config
    from backend.ranks.replica import check_group

    tiny = TinyModel(case, tmp_path)
    settings = EngineSettings(model=str(tiny.path), tp=3, expert_parallel=True)
    with pytest.raises(ModelError, match=words):
        check_group(load_config(tiny.path), settings)
