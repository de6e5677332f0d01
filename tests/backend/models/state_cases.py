"""Families whose layers keep states: short convolutions."""

from typing import Any

import gguf
from torch import Tensor

from tests.backend.models.family_cases import FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin, NamedTensors


def _lfm2_metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    heads = [config.num_key_value_heads * (kind != "conv") for kind in config.layer_types]
    writer.kv_data[0].pop(f"{writer.arch}.attention.head_count_kv")
    writer.add_head_count_kv(heads)
    writer.add_shortconv_l_cache(config.conv_L_cache)
    writer.add_layer_norm_rms_eps(config.norm_eps)


def _squeezed(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    return [(name, tensor.squeeze(1) if "conv.conv" in name else tensor)]


def _moe_metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    _lfm2_metadata(writer, config)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_leading_dense_block_count(config.num_dense_layers)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)


def _stacks(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    if name.endswith("expert_bias"):
        return [(f"{name}.bias", tensor)]
    if "experts." not in name:
        return _squeezed(name, tensor, config)
    stem = name.removeprefix("model.").rpartition(".")[0]
    if name.endswith("down_proj"):
        return [(f"{stem}.w2.weight", tensor)]
    gate, up = tensor.chunk(2, dim=1)
    return [(f"{stem}.w1.weight", gate), (f"{stem}.w3.weight", up)]


LFM2_TWIN = GGUFTwin("LFM2", metadata=_lfm2_metadata, change=_squeezed)
KINDS = ["conv", "conv", "full_attention", "conv"]
LFM2 = {
    "num_hidden_layers": 4,
    "layer_types": KINDS,
    "conv_L_cache": 3,
    "block_auto_adjust_ff_dim": False,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}
LFM2_MOE = {
    "num_hidden_layers": 4,
    "layer_types": KINDS,
    "rope_parameters": LFM2["rope_parameters"],
    "num_dense_layers": 1,
    "num_experts": 6,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 96,
}
STATES = {
    "lfm2_moe": FamilyCase(
        "Lfm2MoeForCausalLM",
        LFM2_MOE,
        twin=GGUFTwin("LFM2MOE", metadata=_moe_metadata, change=_stacks),
    ),
    "lfm2_moe without correction": FamilyCase(
        "Lfm2MoeForCausalLM",
        LFM2_MOE
        | {"use_expert_bias": False, "norm_topk_prob": False, "routed_scaling_factor": 1.5},
    ),
    "lfm2": FamilyCase("Lfm2ForCausalLM", LFM2, twin=LFM2_TWIN),
    "lfm2 with biases and a wider MLP": FamilyCase(
        "Lfm2ForCausalLM",
        LFM2
        | {
            "conv_bias": True,
            "conv_L_cache": 4,
            "intermediate_size": 90,
            "block_auto_adjust_ff_dim": True,
            "block_ffn_dim_multiplier": 1.3,
            "block_multiple_of": 16,
        },
    ),
    "lfm2 without attention": FamilyCase("Lfm2ForCausalLM", LFM2 | {"layer_types": ["conv"] * 4}),
}

# For long prompts, and with heads that our own attention takes.
_LONG_SIZES = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
LONG = {
    "lfm2": FamilyCase("Lfm2ForCausalLM", LFM2 | _LONG_SIZES, num_tokens=700),
    "lfm2 without attention": FamilyCase(
        "Lfm2ForCausalLM", LFM2 | _LONG_SIZES | {"layer_types": ["conv"] * 4}, num_tokens=700
    ),
}
