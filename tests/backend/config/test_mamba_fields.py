"""Fields of Granite 4, Nemotron-H and Falcon-H1: what files say, and what is refused by name."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from backend.config.architectures import load_family
from backend.config.errors import ModelError
from backend.config.hf_directory import read_json
from backend.config.spec import MLP, Attention, DecoderSpec, Experts, Mamba2, PartScales
from tests.backend.config.families.family_config import config_of

# As in the files of granite-4.0-h-tiny, Nemotron-3-Nano-30B-A3B and Falcon-H1-0.5B, but for how
# many layers there are.
GRANITE: dict[str, Any] = {
    "attention_bias": False,
    "attention_multiplier": 0.0078125,
    "embedding_multiplier": 12,
    "hidden_act": "silu",
    "hidden_size": 1536,
    "intermediate_size": 512,
    "layer_types": ["mamba", "attention"],
    "logits_scaling": 6,
    "mamba_chunk_size": 256,
    "mamba_conv_bias": True,
    "mamba_d_conv": 4,
    "mamba_d_head": 64,
    "mamba_d_state": 128,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_n_heads": 48,
    "mamba_proj_bias": False,
    "max_position_embeddings": 131072,
    "num_attention_heads": 12,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "num_local_experts": 64,
    "position_embedding_type": "nope",
    "residual_multiplier": 0.22,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000,
    "router_aux_loss_coef": 0.01,
    "shared_intermediate_size": 1024,
}
NEMOTRON: dict[str, Any] = {
    "attention_bias": False,
    "chunk_size": 128,
    "conv_kernel": 4,
    "expand": 2,
    "head_dim": 128,
    "hidden_size": 2688,
    "hybrid_override_pattern": "ME*-",
    "intermediate_size": 1856,
    "layer_norm_epsilon": 1e-05,
    "mamba_head_dim": 64,
    "mamba_hidden_act": "silu",
    "mamba_num_heads": 64,
    "mamba_proj_bias": False,
    "mamba_ssm_cache_dtype": "float32",
    "max_position_embeddings": 262144,
    "mlp_bias": False,
    "mlp_hidden_act": "relu2",
    "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712,
    "n_group": 1,
    "n_groups": 8,
    "n_routed_experts": 128,
    "n_shared_experts": 1,
    "norm_eps": 1e-05,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "num_logits_to_keep": 1,
    "partial_rotary_factor": 1.0,
    "rescale_prenorm_residual": True,
    "residual_in_fp32": False,
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "sliding_window": None,
    "ssm_state_size": 128,
    "time_step_floor": 0.0001,
    "time_step_limit": [0.0, math.inf],
    "time_step_max": 0.1,
    "time_step_min": 0.001,
    "topk_group": 1,
    "use_bias": False,
    "use_conv_bias": True,
    "use_mamba_kernels": True,
}
FALCON: dict[str, Any] = {
    "attention_bias": False,
    "attention_in_multiplier": 1.0,
    "attention_out_multiplier": 0.9375,
    "embedding_multiplier": 5.656854249492381,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "key_multiplier": 0.390625,
    "lm_head_multiplier": 0.0390625,
    "mamba_chunk_size": 256,
    "mamba_conv_bias": True,
    "mamba_d_conv": 4,
    "mamba_d_head": 64,
    "mamba_d_ssm": 1536,
    "mamba_d_state": 128,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_n_heads": 24,
    "mamba_norm_before_gate": False,
    "mamba_proj_bias": False,
    "mamba_rms_norm": False,
    "max_position_embeddings": 16384,
    "mlp_bias": False,
    "mlp_multipliers": [0.8838834764831844, 0.5859375],
    "num_attention_heads": 8,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_logits_to_keep": 1,
    "projectors_bias": False,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 100000000000.0,
    "ssm_in_multiplier": 1.25,
    "ssm_multipliers": [0.5, 1.0, 2.0, 0.25, 4.0],
    "ssm_out_multiplier": 0.23570226039551587,
}
ALL = {"granitemoehybrid": GRANITE, "nemotron_h": NEMOTRON, "falcon_h1": FALCON}
SSM = {
    "ssm.conv_kernel": 4,
    "ssm.state_size": 128,
    "ssm.group_count": 8,
    "ssm.time_step_rank": 64,
    "ssm.inner_size": 4096,
}
GGUF: dict[str, Any] = SSM | {
    "hidden_size": 2688,
    "num_hidden_layers": 5,
    "nextn_predict_layers": 1,
    "num_attention_heads": 32,
    "num_key_value_heads": [0, 0, 2, 0, 2],
    "intermediate_size": [0, 1856, 0, 0, 1856],
    "head_dim": 128,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 4096,
}


def spec_of(name: str, kind: Any = "huggingface", **changes: Any) -> DecoderSpec:
    values = GGUF if kind == "gguf" else ALL[name]
    tensors = {"blk.0.ssm_norm.weight": (8, 512), "blk.0.ssm_conv1d.bias": (6144,)}
    spec = config_of(load_family(name), values | changes, kind, tensors).spec
    assert isinstance(spec, DecoderSpec)
    return spec


def test_granite_has_multipliers_and_no_positions() -> None:
    mamba, attention = spec_of("granitemoehybrid").layers
    assert mamba.state == Mamba2(48, 64, 1, 128, 4) and mamba.attention is None
    assert attention.attention == Attention(None, scale=0.0078125)
    assert attention.residual_scale == 0.22
    assert attention.mlp == Experts(64, 6, 512, shared_width=1024)
    dense = spec_of("granitemoehybrid", num_local_experts=0, position_embedding_type="rope")
    assert dense.layers[0].mlp == MLP(1024)
    assert dense.layers[1].attention and dense.layers[1].attention.rope


def test_nemotrons_layers_are_one_thing_each() -> None:
    mamba, experts, attention, mlp = spec_of("nemotron_h").layers
    assert mamba.state == Mamba2(64, 64, 8, 128, 4) and mamba.mlp is None
    assert attention.attention == Attention(None) and attention.mlp is None
    assert mlp.mlp == MLP(1856, "relu2", is_gated=False)
    assert isinstance(experts.mlp, Experts) and not experts.mlp.is_gated
    assert (experts.mlp.shared_width, experts.mlp.weight_scale) == (3712, 2.5)
    kinds = ["mamba", "moe", "full_attention", "mlp"]
    listed = {"hybrid_override_pattern": None, "layers_block_type": kinds}
    assert spec_of("nemotron_h", **listed) == spec_of("nemotron_h")


def test_gguf_says_by_keys_and_widths_what_a_layer_is() -> None:
    spec = spec_of("nemotron_h", "gguf")
    found = [(layer.state is None, layer.attention is None) for layer in spec.layers]
    assert found == [(False, True), (True, True), (True, False), (False, True)]
    assert spec.draft_layers == 1
    assert spec.layers[0].state == Mamba2(64, 64, 8, 128, 4, has_log_rates=False)


def test_falcons_multipliers_are_where_nothing_is_rounded() -> None:
    layer = spec_of("falcon_h1").layers[0]
    scales = PartScales(0.625, 1.25, 2.5, 0.3125, 5.0, 0.23570226039551587)
    assert layer.state == Mamba2(24, 64, 1, 128, 4, norm="none", scales=scales)
    assert layer.attention and layer.attention.scale == 0.390625 / 8
    assert layer.attention.out_scale == 0.9375
    assert layer.mlp == MLP(2048, gate_scale=0.8838834764831844, out_scale=0.5859375)
    normed = spec_of("falcon_h1", mamba_rms_norm=True).layers[0].state
    assert isinstance(normed, Mamba2) and normed.norm == "behind_gate"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("granitemoehybrid", {"mamba_d_head": 32}, "mamba_d_head 32: heads together must have"),
        ("granitemoehybrid", {"mamba_n_groups": 5}, "48 heads .* shared out over 5 groups"),
        ("granitemoehybrid", {"mamba_d_conv": 1}, "taps of the convolution less one above 0"),
        ("granitemoehybrid", {"layer_types": ["mamba", "mlp"]}, "layer_types: 'mlp' is not"),
        ("granitemoehybrid", {"time_step_limit": [0.1]}, "time_step_limit is .*not two numbers"),
        ("granitemoehybrid", {"time_step_limit": [2, 1]}, "steps of a Mamba-2 layer from 2"),
        ("granitemoehybrid", {"new_field": 1}, "new_field is not known"),
        ("nemotron_h", {"hybrid_override_pattern": "MX"}, "layers_block_type: 'X' is not"),
        ("nemotron_h", {"mlp_bias": True}, "biases of experts are not supported"),
        ("nemotron_h", {"sliding_window": 128}, "sliding_window is 128"),
        ("nemotron_h", {"mlp_hidden_act": "mish"}, "mlp_hidden_act 'mish' is not supported"),
        ("falcon_h1", {"mamba_proj_bias": True}, "biases beside ssm_in_multiplier"),
        ("falcon_h1", {"projectors_bias": True}, "biases beside ssm_out_multiplier"),
        ("falcon_h1", {"attention_bias": True}, "biases beside attention_in_multiplier"),
        ("falcon_h1", {"ssm_multipliers": [1, 2]}, "ssm_multipliers is .*not 5 numbers"),
        ("falcon_h1", {"lm_head_multiplier": 0}, "lm_head_multiplier is 0"),
    ],
)
def test_what_cannot_be_computed_is_refused(
    name: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        spec_of(name, **changes)


def test_infinite_numbers_of_either_form_are_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for limit in ([0.0, math.inf], [0.0, {"__float__": "Infinity"}]):
        path.write_text(json.dumps({"time_step_limit": limit}))
        read = read_json(path, dict[str, Any])
        state = spec_of("granitemoehybrid", **read).layers[0].state
        assert isinstance(state, Mamba2) and state.steps_to == math.inf
    path.write_text('{"time_step_limit": [0.0, Infinity')
    with pytest.raises(ModelError, match="not valid JSON"):
        read_json(path, dict[str, Any])
