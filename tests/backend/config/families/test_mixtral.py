"""Mixtral's fields, of directories and, as llama, of GGUF files."""

from typing import Any

from backend.config.families import llama, mixtral
from backend.config.fields import Fields
from backend.config.rope import Rope
from backend.config.spec import MLP, DecoderSpec, Experts

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "rms_norm_eps": 1e-5,
}


def spec(**values: Any) -> DecoderSpec:
    """By common names: aliases are the reader's."""
    fields = Fields("huggingface", SIZES | {"num_experts": 8} | values, {})
    result = mixtral.FAMILY.spec(fields)
    assert isinstance(result, DecoderSpec)
    assert not set(fields.left()) - {"num_attention_heads", "hidden_size"}
    return result


def test_experts_are_of_the_width_of_the_mlp_and_renormalised() -> None:
    assert spec(num_experts_per_tok=2).layers[1].mlp == Experts(8, 2, 64)


def test_base_of_rotation_is_a_million_by_default() -> None:
    assert spec().layers[0].attends.rope == Rope(8, 1e6)
    assert spec(rope_theta=5e5).layers[0].attends.rope == Rope(8, 5e5)
    new = {"rope_type": "default", "rope_theta": 7e5}
    assert spec(rope_parameters=new).layers[0].attends.rope == Rope(8, 7e5)


def test_noise_of_training_is_harmless() -> None:
    assert "router_jitter_noise" in mixtral.FAMILY.harmless


def test_llama_of_a_gguf_file_has_experts_if_it_says_so() -> None:
    values = SIZES | {"rope.dimension_count": 8}
    dense = llama.FAMILY.spec(Fields("gguf", values | {"num_experts": 0}, {}))
    assert dense.layers[0].mlp == MLP(64)
    sparse = Fields("gguf", values | {"num_experts": 8, "num_experts_per_tok": 3}, {})
    assert llama.FAMILY.spec(sparse).layers[0].mlp == Experts(8, 3, 64)
