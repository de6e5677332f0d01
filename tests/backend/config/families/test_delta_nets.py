"""Fields of Qwen3.5 and Qwen3-Next: what config.json and GGUF files say, and what is refused."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from backend.config.architectures import load_family
from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.config.spec import MLP, DecoderSpec, DeltaNet, Experts
from backend.weights.source_table import SourceTable
from tests.backend.config.families.family_config import config_of

# As in the files of Qwen3.5-0.8B, but for its sizes.
FIELDS: dict[str, Any] = {
    "attention_bias": False,
    "attn_output_gate": True,
    "full_attention_interval": 4,
    "head_dim": 256,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
    "mamba_ssm_dtype": "float32",
    "max_position_embeddings": 262144,
    "mlp_only_layers": [],
    "model_type": "qwen3_5_text",
    "mtp_num_hidden_layers": 1,
    "mtp_use_dedicated_embeddings": False,
    "num_attention_heads": 8,
    "num_hidden_layers": 8,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {
        "mrope_interleaved": True,
        "mrope_section": [11, 11, 10],
        "partial_rotary_factor": 0.25,
        "rope_theta": 10000000,
        "rope_type": "default",
    },
}
GGUF: dict[str, Any] = {
    "max_position_embeddings": 262144,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 9,
    "nextn_predict_layers": 1,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e7,
    "rope.dimension_count": 64,
    "rope.dimension_sections": [11, 11, 10, 0],
    "ssm.conv_kernel": 4,
    "ssm.state_size": 128,
    "ssm.group_count": 16,
    "ssm.time_step_rank": 32,
    "ssm.inner_size": 4096,
    "full_attention_interval": 4,
}
EXPERTS = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48,
}
MTP = {"mtp.fc.weight": (64, 128)}


def config(name: str = "qwen3_5", **changes: Any) -> ModelConfig:
    return config_of(load_family(name), FIELDS | changes, tensors=MTP)


def gguf_config(
    name: str = "qwen3_5", changes: Mapping[str, Any] = MappingProxyType({})
) -> ModelConfig:
    return config_of(load_family(name), {**GGUF, **changes}, "gguf")


def spec_of(config: ModelConfig) -> DecoderSpec:
    assert isinstance(config.spec, DecoderSpec)
    return config.spec


def test_every_fourth_layer_attends_and_others_keep_a_state() -> None:
    spec = spec_of(config())
    attends = [layer.attention is not None for layer in spec.layers]
    assert attends == [False, False, False, True] * 2
    assert [layer.state is None for layer in spec.layers] == attends
    attention = spec.layers[3].attention
    assert attention and attention.is_gated and attention.qk_norm == "head"
    assert attention.rope and (attention.rope.dim, attention.rope.theta) == (64, 1e7)
    assert spec.layers[0].state == DeltaNet(16, 32, 128, 128, 4, 1e-6, has_log_rates=True)
    assert spec.norm.offset == 1.0


def test_gguf_has_norms_and_rates_ready_and_heads_apart() -> None:
    spec = spec_of(gguf_config())
    assert len(spec.layers) == 8
    assert spec.norm.offset == 0.0
    assert spec.layers[0].state == DeltaNet(
        16, 32, 128, 128, 4, 1e-5, has_log_rates=False, is_interleaved=True
    )


def test_layers_that_draft_are_left_out_with_a_line() -> None:
    for found in (config(), gguf_config()):
        assert spec_of(found).draft_layers == 1
        assert [note for note in found.notes if "multi-token prediction" in note]
    assert config_of(load_family("qwen3_5"), FIELDS).notes == ()


def test_tensors_that_draft_are_no_tensors_too_many() -> None:
    family = load_family("qwen3_5")
    names = ["mtp.fc.weight", "model.mtp.layers.0.mlp.up_proj.weight", "other.weight"]
    assert SourceTable(config(), family.hf_names, names).left_over == ["other.weight"]
    names = ["blk.8.attn_q.weight", "blk.8.nextn.eh_proj.weight", "blk.9.attn_q.weight"]
    assert SourceTable(gguf_config(), family.gguf_names, names).left_over == names[2:]


def test_layer_types_count_over_the_interval() -> None:
    types = ["full_attention"] * 3 + ["linear_attention"] * 5
    layers = spec_of(config(layer_types=types)).layers
    assert [layer.attention is not None for layer in layers] == [True] * 3 + [False] * 5
    recurrent = [False, True] * 4 + [False]
    layers = spec_of(gguf_config(changes={"attention.recurrent_layers": recurrent})).layers
    assert [layer.state is not None for layer in layers] == recurrent[:8]


def test_experts_are_renormalised_beside_one_with_a_gate() -> None:
    expected = Experts(8, 2, 32, renormalise=True, shared_width=48, shared_gate=True)
    fields = {"intermediate_size": None} | EXPERTS
    for found in (config("qwen3_5_moe", **fields), gguf_config("qwen3_5_moe", fields)):
        assert spec_of(found).layers[0].mlp == expected


def test_qwen3_next_may_have_dense_layers_and_neighbouring_heads() -> None:
    layers = spec_of(config("qwen3_next", **EXPERTS | {"mlp_only_layers": [1]})).layers
    assert [isinstance(layer.mlp, MLP) for layer in layers[:3]] == [False, True, False]
    state = spec_of(gguf_config("qwen3_next", EXPERTS)).layers[0].state
    assert isinstance(state, DeltaNet) and not state.is_interleaved


def test_heads_of_query_and_gate_take_turns_in_a_file() -> None:
    found, missing = load_family("qwen3_5").hf_names.sources(
        config(),
        {"model.language_model.embed_tokens.weight"}
        | {f"model.language_model.layers.3.self_attn.{x}_proj.weight" for x in "qkvo"}
        | {"model.language_model.layers.0.linear_attn.in_proj_qkv.weight"},
    )
    query, gate = (found[f"model.layers.3.self_attn.{part}_proj.weight"] for part in ("q", "gate"))
    assert query.name == gate.name and query.name.endswith("layers.3.self_attn.q_proj.weight")
    assert (query.groups, gate.groups) == ((512, 0, 256), (512, 256, 512))
    assert query.heads and gate.heads is None
    values = found["model.layers.0.linear_attn.v_proj.weight"]
    assert values.start == 2 * 16 * 128
    assert missing["model.layers.0.linear_attn.rates.weight"].endswith("linear_attn.A_log.weight")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attn_output_gate": False}, "attn_output_gate is False"),
        ({"linear_num_value_heads": 24}, "24 value heads of a delta net cannot be shared"),
        ({"linear_conv_kernel_dim": 1}, "taps of the convolution less one above 0, not 0"),
        ({"layer_types": ["full_attention"]}, "layer_types is no list of 8"),
        ({"layer_types": ["mamba"] * 8}, "layer_types: 'mamba' is not supported"),
        ({"mlp_only_layers": [3]}, "mlp_only_layers is \\[3\\]"),
        ({"full_attention_interval": 0}, "full_attention_interval must be above 0"),
        ({"new_field": 3}, "new_field is not known for qwen3_5 models"),
    ],
)
def test_fields_that_mean_something_else_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        config(**changes)


def test_values_wider_than_keys_are_refused_in_gguf() -> None:
    with pytest.raises(ModelError, match=r"ssm\.inner_size is 2048"):
        gguf_config(changes={"ssm.inner_size": 2048})
