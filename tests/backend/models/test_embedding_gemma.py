"""EmbeddingGemma: Gemma 3 whose tokens see those behind them, then a mean and two linear layers."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from backend.config.errors import ModelError
from backend.config.load import load_config
from backend.native import kernels
from tests.backend.models.encoder_models import engine_of, vectors_of
from tests.backend.models.family_cases import FamilyCase, TinyModel
from tests.backend.models.gemma_cases import gemma_change
from tests.backend.models.gguf_twin import GGUFTwin
from tests.backend.tp_ranks import run_ranks

TEXTS = [[5, 6, 7, 8, 9], list(range(10, 60)), [70], list(range(20, 42))]
FULL, SLIDING = "full_attention", "sliding_attention"


def _metadata(writer: Any, config: Any) -> None:
    # What the file says: transformers has half of it, and one more.
    writer.add_sliding_window((config.sliding_window - 1) * 2)
    writer.add_sliding_window_pattern([kind == SLIDING for kind in config.layer_types])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)


CASE = FamilyCase(
    "Gemma3TextModel",
    {
        "num_hidden_layers": 3,
        "layer_types": [SLIDING, FULL, SLIDING],
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 10,
        "use_bidirectional_attention": True,
    },
    twin=GGUFTwin("GEMMA_EMBEDDING", metadata=_metadata, change=gemma_change),
)


class Tiny(TinyModel):
    """The states of all tokens stand for logits."""

    def logits_of(self, token_ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            states: torch.Tensor = self._model(torch.tensor([token_ids])).last_hidden_state[0]
        return states


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(CASE, tmp_path_factory.mktemp("gemma"))


@pytest.fixture(scope="module")
def means(tiny: Tiny) -> torch.Tensor:
    """Return the mean of each text's states, of length 1."""
    return F.normalize(torch.stack([tiny.logits_of(text).mean(0) for text in TEXTS]))


@pytest.mark.parametrize("is_twin", [False, True])
def test_vectors_are_means_of_all_tokens(tiny: Tiny, means: torch.Tensor, is_twin: bool) -> None:
    """In a directory without modules.json vectors keep their length."""
    found = vectors_of(engine_of(tiny.twin if is_twin else tiny.path), TEXTS)
    if not is_twin:
        found = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert np.abs(found - means.numpy()).max() < 1e-4


def test_ranks_together_give_the_vectors_of_one(tiny: Tiny, means: torch.Tensor) -> None:
    for size in (2, 3):
        for found in run_ranks(size, lambda tp: vectors_of(engine_of(tiny.path, tp), TEXTS)):
            found = found / np.linalg.norm(found, axis=1, keepdims=True)
            assert np.abs(found - means.numpy()).max() < 1e-4


@pytest.mark.skipif(kernels is None, reason="needs our kernels")
def test_own_kernels_come_close(tiny: Tiny, means: torch.Tensor) -> None:
    found = vectors_of(engine_of(tiny.twin, dtype="bfloat16", block_size=16), TEXTS)
    assert (found * means.numpy()).sum(1).min() > 0.999


def test_linear_layers_follow_the_mean(tiny: Tiny, means: torch.Tensor, tmp_path: Path) -> None:
    """As Google's directory has them: wider, without biases, and back."""
    model = tmp_path / "model"
    model.mkdir()
    for file in tiny.path.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]
    modules += [("Dense", "3_Dense"), ("Normalize", "4_Normalize")]
    kinds = [{"type": f"sentence_transformers.models.{n}", "path": path} for n, path in modules]
    (model / "modules.json").write_text(json.dumps(kinds))
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    expected = torch.stack([tiny.logits_of(text).mean(0) for text in TEXTS])
    for folder, shape in (("2_Dense", (96, 48)), ("3_Dense", (48, 96))):
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(shape[0])) / 7
        fields: dict[str, Any] = {"in_features": shape[1], "out_features": shape[0], "bias": False}
        fields |= {"activation_function": "torch.nn.modules.linear.Identity"}
        (model / folder).mkdir()
        (model / folder / "config.json").write_text(json.dumps(fields))
        save_file({"linear.weight": weight}, model / folder / "model.safetensors")
        expected = expected @ weight.T
    found = vectors_of(engine_of(model), TEXTS)
    assert np.abs(found - F.normalize(expected).numpy()).max() < 1e-4


def test_it_makes_no_text(tiny: Tiny) -> None:
    with pytest.raises(ModelError, match="is one to embed, and cannot generate"):
        load_config(tiny.path, task="generate")
