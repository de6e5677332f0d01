"""Directories of GPT-2 and GPT-Neo as they were written years ago."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from backend.config.errors import ModelError
from tests.backend.models.family_cases import TinyModel
from tests.backend.models.learned_position_cases import LEARNED_POSITIONS
from tests.backend.models.tiny_engine import engine_of, logits_of


def rewrite(model: Path, prefix: str, extra: dict[str, torch.Tensor]) -> None:
    """Give the tensors of a directory another prefix, and add some."""
    file = model / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    renamed = {prefix + name.removeprefix("transformer."): t for name, t in tensors.items()}
    extra = {prefix + name: tensor for name, tensor in extra.items()}
    safetensors.torch.save_file(renamed | extra, file, metadata={"format": "pt"})


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize(("name", "attention"), [("gpt2", "attn"), ("gpt_neo", "attn.attention")])
def test_causal_masks_in_the_file_are_left_out(
    name: str, attention: str, prefix: str, tmp_path: Path
) -> None:
    """As openai-community/gpt2 has them, and no prefix either."""
    tiny = TinyModel(LEARNED_POSITIONS[name], tmp_path)
    rewrite(
        tiny.path,
        prefix,
        {
            f"h.0.{attention}.bias": torch.tril(torch.ones(1, 1, 64, 64)),
            f"h.0.{attention}.masked_bias": torch.tensor(-1e4),
        },
    )
    got = logits_of(engine_of(tiny.path), tiny.prompt)
    torch.testing.assert_close(got, tiny.logits, rtol=1e-4, atol=1e-4)


def test_matrices_that_lie_the_other_way_are_refused(tmp_path: Path) -> None:
    """fc of 48 x 192 where 192 x 48 is meant: no guess by shape."""
    tiny = TinyModel(LEARNED_POSITIONS["gpt2"], tmp_path)
    file = tiny.path / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    name = "transformer.h.0.mlp.c_fc.weight"
    tensors[name] = tensors[name].T.contiguous()
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"h\.0\.mlp\.c_fc\.weight has shape"):
        engine_of(tiny.path)
