"""Weights that nobody has."""

from typing import Any

import msgspec
import pytest
import torch

from backend.config.errors import ModelError
from backend.config.tensors import tensors_of
from backend.weights.dummy import PERIOD, DummyCheckpoint
from tests.backend.factories import tiny_config

WIDE: dict[str, Any] = {"vocab_size": 3000, "hidden_size": 512, "stored_dtype": "bfloat16"}


def test_slices_have_the_numbers_of_the_whole() -> None:
    """3000 x 512 numbers go round more than once."""
    config = tiny_config(**WIDE)
    checkpoint = DummyCheckpoint(config)
    assert 3000 * 512 > PERIOD and checkpoint.names() == set(tensors_of(config))
    for name in ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"):
        whole = checkpoint.read(name)
        assert whole.shape == checkpoint.shape(name) and whole.dtype == torch.bfloat16
        part = checkpoint.read(name, slice(24, 48), slice(100, 300))
        assert part.is_contiguous() and torch.equal(part, whole[24:48, 100:300])
    norm = checkpoint.read("model.norm.weight")
    assert 0.9 < norm.float().mean() < 1.1 and norm.std() > 0


def test_tensors_differ_and_come_again_the_same() -> None:
    config = tiny_config()
    first, second = DummyCheckpoint(config), DummyCheckpoint(config)
    names = [f"model.layers.{n}.mlp.gate_proj.weight" for n in range(2)]
    assert torch.equal(first.read(names[0]), second.read(names[0]))
    assert not torch.equal(first.read(names[0]), first.read(names[1]))


def test_quantized_shapes_are_refused() -> None:
    config = msgspec.structs.replace(tiny_config(), stored_dtype="awq")
    with pytest.raises(ModelError, match="quantization_config"):
        DummyCheckpoint(config)
