"""Mamba-2 with our own kernels and in exact mode, beside transformers: over ranks, in chunks.

What test_families.py has in float32 of stock torch; test_states.py runs the same families through
the scheduler.
"""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from backend.native import absence, kernels
from tests.backend.models.family_cases import TinyModel
from tests.backend.models.mamba_cases import LONG_MAMBAS, OWN_KERNELS
from tests.backend.models.tiny_engine import engine_of, logits_of
from tests.backend.tp_ranks import run_ranks

needs_kernels = pytest.mark.skipif(kernels is None, reason=absence)


@pytest.fixture(scope="module", params=sorted(OWN_KERNELS))
def tiny(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TinyModel]:
    yield TinyModel(OWN_KERNELS[request.param], tmp_path_factory.mktemp("mamba"))


@needs_kernels
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("file", ["path", "twin"])
def test_own_kernels_over_ranks(tiny: TinyModel, size: int, file: str) -> None:
    """What transformers' own bfloat16 is off by, and half as much again."""

    def logits(tp: object) -> Tensor:
        settings = {"dtype": "bfloat16", "block_size": 16}
        ours = engine_of(getattr(tiny, file), tp, **settings)  # type: ignore[arg-type]
        assert "PyTorch" not in ours.kernels
        return logits_of(ours, tiny.prompt, 16, [30, 1, 1])

    got = torch.cat(run_ranks(size, logits), dim=1)
    theirs = copy.deepcopy(tiny._model).bfloat16()
    with torch.inference_mode():
        rounded = theirs(torch.tensor([tiny.prompt]), use_cache=False).logits[0].float()
    assert float((got - tiny.logits).norm()) < 1.5 * float((rounded - tiny.logits).norm())


def test_exact_mode_gives_the_same_bits_in_any_chunks(tiny: TinyModel) -> None:
    ours = engine_of(tiny.path, exact=True, kernels="torch")
    whole = logits_of(ours, tiny.prompt)
    for chunks in ([1] * 39, [33], [5, 16]):
        assert torch.equal(logits_of(ours, tiny.prompt, chunks=chunks), whole)


@pytest.mark.parametrize("chunks", [[64] * 10, [500] + [1] * 200, [63, 1, 65, 300]])
def test_long_prompt_in_chunks(tmp_path: Path, chunks: list[int]) -> None:
    """The second is a prompt and 200 tokens that are decoded."""
    tiny = TinyModel(LONG_MAMBAS["falcon_h1"], tmp_path)
    got = logits_of(engine_of(tiny.path), tiny.prompt, chunks=chunks)
    torch.testing.assert_close(got, tiny.logits, rtol=1e-4, atol=2e-4)
