"""Families whose layers keep states: short convolutions."""

from typing import Any

import gguf
from torch import Tensor

from tests.backend.models.family_cases import FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin, NamedTensors


def _lfm2_metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    heads = [config.num_key_value_heads * (kind != "conv") for kind in config.layer_types]
    writer.kv_data[0].pop("lfm2.attention.head_count_kv")
    writer.add_head_count_kv(heads)
    writer.add_shortconv_l_cache(config.conv_L_cache)
    writer.add_layer_norm_rms_eps(config.norm_eps)


def _squeezed(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    return [(name, tensor.squeeze(1) if "conv.conv" in name else tensor)]


LFM2_TWIN = GGUFTwin("LFM2", metadata=_lfm2_metadata, change=_squeezed)
KINDS = ["conv", "conv", "full_attention", "conv"]
LFM2 = {
    "num_hidden_layers": 4,
    "layer_types": KINDS,
    "conv_L_cache": 3,
    "block_auto_adjust_ff_dim": False,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}
STATES = {
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
