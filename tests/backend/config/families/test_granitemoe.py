"""Granite MoE's fields."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families import granitemoe
from backend.config.fields import Fields, FileKind
from backend.config.spec import DecoderSpec, Experts

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_experts": 8,
    "num_experts_per_tok": 4,
    "rms_norm_eps": 1e-6,
}


def spec(kind: FileKind = "huggingface", **values: Any) -> DecoderSpec:
    fields = Fields(kind, SIZES | values, {})
    result = granitemoe.FAMILY.spec(fields)
    assert isinstance(result, DecoderSpec)
    assert not set(fields.left()) - {"num_attention_heads", "hidden_size"}
    return result


def test_multipliers() -> None:
    found = spec(
        attention_multiplier=0.5,
        embedding_multiplier=12.0,
        residual_multiplier=0.25,
        logits_scaling=4.0,
    )
    assert found.embedding_scale == 12.0 and found.logit_scale == 0.25
    assert found.layers[0].residual_scale == 0.25
    assert found.layers[0].attends.scale == 0.5


def test_scale_of_attention_that_is_not_said() -> None:
    """1 in transformers' configuration; in llama.cpp what other models have, also for 0."""
    assert spec().layers[0].attends.scale == 1.0
    for values in ({}, {"attention_multiplier": 0.0}):
        assert spec("gguf", logits_scaling=1.0, **values).layers[0].attends.scale == 0.25


def test_gguf_file_must_say_what_logits_are_divided_by() -> None:
    with pytest.raises(ModelError, match="logits_scaling is missing"):
        spec("gguf")


def test_shared_expert_has_no_gate() -> None:
    assert spec().layers[0].mlp == Experts(8, 4, 32)
    shared = spec(shared_expert_intermediate_size=64).layers[0].mlp
    assert shared == Experts(8, 4, 32, shared_width=64)
