"""Whole models over Triton's op table, against transformers' float32 forward of their weights."""

from pathlib import Path

import pytest
import torch

from backend.engine import platform
from backend.ops.triton.triton_ops import TritonOps
from tests.backend.models.delta_cases import DELTA_NETS
from tests.backend.models.family_cases import TinyModel
from tests.backend.models.gemma_cases import GEMMA
from tests.backend.models.gpt_oss_cases import GPT_OSS
from tests.backend.models.tiny_engine import engine_of, logits_of

CASES = GEMMA | GPT_OSS | DELTA_NETS

pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore::RuntimeWarning")]


@pytest.mark.parametrize(
    "name", ["gemma2", *(pytest.param(n, marks=pytest.mark.slow) for n in ("gpt_oss", "qwen3_5"))]
)
def test_logits_are_those_of_transformers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows, softcaps, sinks, gates and states; a prompt in chunks, and a token by itself."""
    monkeypatch.setattr(platform, "_select_ops", lambda *_: TritonOps())
    model = TinyModel(CASES[name], tmp_path)
    engine = engine_of(model.path, device="auto")
    logits = logits_of(engine, model.prompt, chunks=[13, 1])
    torch.testing.assert_close(logits.cpu(), model.logits, rtol=1e-4, atol=1e-4)
