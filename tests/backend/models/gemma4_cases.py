"""Tiny models of gemma4 and gemma4_unified."""

from collections.abc import Iterable
from typing import Any

import gguf
import torch
from torch import Tensor

from tests.backend.models.family_cases import SIZES, FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin

_SLIDING, _FULL = "sliding_attention", "full_attention"
_GEMMA4: dict[str, Any] = {
    "hidden_activation": "gelu_pytorch_tanh",
    "head_dim": 12,
    "global_head_dim": 20,
    "sliding_window": 9,
    "num_hidden_layers": 6,
    "layer_types": [_SLIDING, _SLIDING, _FULL] * 2,
    "vocab_size_per_layer_input": SIZES["vocab_size"],
    "hidden_size_per_layer_input": 0,
    "rope_parameters": {
        _FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.4, "rope_theta": 5000.0},
        _SLIDING: {"rope_type": "default", "rope_theta": 500.0},
    },
}
# The last three see the keys of layers 2 and 3, as E2B's last twenty do of two.
SMALL = _GEMMA4 | {
    "num_hidden_layers": 7,
    "layer_types": [_SLIDING, _SLIDING, _SLIDING, _FULL, _SLIDING, _SLIDING, _FULL],
    "num_kv_shared_layers": 3,
    "use_double_wide_mlp": True,
    "hidden_size_per_layer_input": 8,
    "final_logit_softcapping": 4.0,
}
LARGE = _GEMMA4 | {
    "attention_k_eq_v": True,
    "num_global_key_value_heads": 2,
    "final_logit_softcapping": 5.0,
}
MIXTURE = LARGE | {
    "num_global_key_value_heads": 3,
    "enable_moe_block": True,
    "num_experts": 6,
    "top_k_experts": 3,
    "moe_intermediate_size": 32,
}
_VISION = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "patch_size": 2,
    "position_embedding_size": 4,
}


def _metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    """As Gemma4Model of the converter has it."""
    has_windows = [kind == _SLIDING for kind in config.layer_types]
    full, sliding = (config.per_layer_config[kind] for kind in (_FULL, _SLIDING))
    count = len(has_windows)
    first = count - config.num_kv_shared_layers
    width = config.intermediate_size
    if config.use_double_wide_mlp:
        writer.add_feed_forward_length([width * (1 + (i >= first)) for i in range(count)])
    else:
        writer.add_feed_forward_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_shared_kv_layers(config.num_kv_shared_layers)
    writer.add_embedding_length_per_layer_input(getattr(config, "hidden_size_per_layer_input", 0))
    writer.add_sliding_window_pattern(has_windows)
    writer.add_sliding_window(config.sliding_window)
    writer.add_key_length(full.head_dim)
    writer.add_value_length(full.head_dim)
    writer.add_key_length_swa(sliding.head_dim)
    writer.add_value_length_swa(sliding.head_dim)
    heads = [(sliding if windowed else full).num_key_value_heads for windowed in has_windows]
    writer.add_head_count_kv(heads if len(set(heads)) > 1 else heads[0])
    writer.add_rope_dimension_count(full.head_dim)
    writer.add_rope_dimension_count_swa(sliding.head_dim)
    if config.final_logit_softcapping:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if getattr(config, "enable_moe_block", False):
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.top_k_experts)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)


def _change(name: str, tensor: Tensor, config: Any) -> Iterable[tuple[str, Tensor]]:
    if name.endswith("layer_scalar"):
        name = f"{name}.weight"
    elif name.endswith("router.scale"):
        name = name.replace("router.scale", "router.proj.scale")
    elif name.endswith("per_expert_scale"):
        name = name.replace("router.per_expert_scale", "experts.down_proj.scale")
    elif ".experts." in name:
        name = f"{name}.weight"
    return [(name, tensor)]


def _factors(config: Any) -> dict[str, Tensor]:
    dim = config.per_layer_config[_FULL].head_dim
    share = config.rope_parameters[_FULL]["partial_rotary_factor"]
    num_turned = int(dim * share / 2)
    factors = [1.0] * num_turned + [1e30] * (dim // 2 - num_turned)
    return {"rope_freqs.weight": torch.tensor(factors)}


_TWIN = GGUFTwin("GEMMA4", metadata=_metadata, change=_change, extra=_factors, is_uneven=True)

GEMMA4 = {
    "gemma4, small": FamilyCase("Gemma4ForCausalLM", SMALL, twin=_TWIN),
    "gemma4, large": FamilyCase("Gemma4ForCausalLM", LARGE, twin=_TWIN, ranks=(2,)),
    "gemma4, mixture": FamilyCase("Gemma4ForCausalLM", MIXTURE, twin=_TWIN),
    "gemma4, biases and a head": FamilyCase(
        "Gemma4ForCausalLM", SMALL | {"attention_bias": True, "tie_word_embeddings": False}
    ),
    "gemma4, seeing": FamilyCase(
        "Gemma4ForConditionalGeneration",
        {
            "text_config": SIZES | SMALL,
            "vision_config": _VISION,
            "audio_config": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "output_proj_dims": 8,
            },
        },
        is_whole=True,
        ranks=(2,),
    ),
    "gemma4_unified": FamilyCase(
        "Gemma4UnifiedForConditionalGeneration",
        {
            "text_config": {
                name: value
                for name, value in (SIZES | LARGE).items()
                if "per_layer_input" not in name
            },
            "vision_config": {
                "mm_embed_dim": 8,
                "mm_posemb_size": 4,
                "output_proj_dims": SIZES["hidden_size"],
                "patch_size": 2,
                "pooling_kernel_size": 1,
            },
            "audio_config": {"audio_embed_dim": 8},
        },
        is_whole=True,
        ranks=(2,),
    ),
}
