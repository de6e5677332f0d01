"""Tiny models of families that differ from others by little: names, a norm, a window, a router."""

from typing import Any

import gguf
from torch import Tensor

from tests.backend.models.expert_cases import stacks
from tests.backend.models.family_cases import SIZES, FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin, NamedTensors
from tests.backend.models.latent_cases import FIELDS as LATENT_FIELDS
from tests.backend.models.llama_like_cases import LLAMA3
from tests.backend.models.mamba_cases import mamba_change, ssm_metadata

FULL, SLIDING = "full_attention", "sliding_attention"


def _rotary(writer: gguf.GGUFWriter, config: Any) -> None:
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(size)


def _sections(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_rope_dimension_sections([*config.rope_parameters["mrope_section"], 0])
    if hasattr(config, "moe_intermediate_size"):
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)


def _mellum(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_sliding_window(config.sliding_window)
    writer.add_sliding_window_pattern([kind == SLIDING for kind in config.layer_types])


def _minimax(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_rope_dimension_count(int(config.head_dim / 2))
    writer.add_expert_feed_forward_length(config.intermediate_size)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)


def _minimax_change(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    if name.endswith("e_score_correction_bias"):
        layer = name.partition(".mlp.")[0]
        return [(f"{layer}.block_sparse_moe.e_score_correction.bias", tensor)]
    return stacks(name.replace(".mlp.gate.", ".block_sparse_moe.gate."), tensor, config)


def _dots1(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_expert_count(config.n_routed_experts)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    writer.add_expert_weights_norm(config.norm_topk_prob)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    writer.add_leading_dense_block_count(config.first_k_dense_replace)


def _dots1_change(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    return stacks(name.replace("correction_bias", "correction.bias"), tensor, config)


def _mamba2(writer: gguf.GGUFWriter, config: Any) -> None:
    for key in ("attention.head_count", "attention.key_length", "attention.value_length"):
        writer.kv_data[0].pop(f"{writer.arch}.{key}", None)
    writer.add_head_count(0)
    writer.add_layer_norm_rms_eps(config.layer_norm_epsilon)
    writer.kv_data[0].pop(f"{writer.arch}.attention.layer_norm_epsilon", None)
    names = ("conv_kernel", "state_size", "n_groups", "num_heads", "head_dim")
    ssm_metadata(writer, config, *names)


def _glm4(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_rope_dimension_count(config.head_dim // 2)


def stablelm_metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads // 4)
    writer.add_parallel_residual(config.use_parallel_residual)


def _olmo(writer: gguf.GGUFWriter, config: Any) -> None:
    _rotary(writer, config)
    writer.add_layer_norm_eps(1e-5)


_EYES = {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "patch_size": 14}
_QWEN2_VL: dict[str, Any] = {
    "text_config": SIZES
    | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]}},
    "vision_config": _EYES | {"embed_dim": 16},
    "tie_word_embeddings": False,
}
_EXPERTS: dict[str, Any] = {
    "num_experts": 6,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 96,
    "head_dim": 16,
}
_IMAGES = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2]}
_ROUTED: dict[str, Any] = {
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 1,
    "moe_intermediate_size": 96,
    "routed_scaling_factor": 1.5,
    "head_dim": 16,
}
_MAMBA2: dict[str, Any] = {
    "num_heads": 6,
    "head_dim": 16,
    "n_groups": 3,
    "state_size": 16,
    "layer_norm_epsilon": 1e-5,
}

LATE = {
    "qwen2_vl": FamilyCase("Qwen2VLForConditionalGeneration", _QWEN2_VL, is_whole=True),
    "qwen2_5_vl": FamilyCase(
        "Qwen2_5_VLForConditionalGeneration",
        _QWEN2_VL
        | {"vision_config": _EYES | {"out_hidden_size": 48, "fullatt_block_indexes": [0]}},
        is_whole=True,
        twin=GGUFTwin("QWEN2VL", metadata=_sections),
    ),
    "qwen3_vl": FamilyCase(
        "Qwen3VLForConditionalGeneration",
        {
            "text_config": SIZES | {"head_dim": 16, "rope_parameters": _IMAGES},
            "vision_config": _EYES | {"out_hidden_size": 48, "deepstack_visual_indexes": [0]},
            "tie_word_embeddings": True,
        },
        is_whole=True,
        twin=GGUFTwin("QWEN3VL", metadata=_sections),
    ),
    "qwen3_vl_moe": FamilyCase(
        "Qwen3VLMoeForConditionalGeneration",
        {
            "text_config": SIZES | _EXPERTS | {"rope_parameters": _IMAGES},
            "vision_config": _EYES | {"out_hidden_size": 48, "deepstack_visual_indexes": [0]},
            "tie_word_embeddings": False,
        },
        is_whole=True,
        twin=GGUFTwin("QWEN3VLMOE", metadata=_sections, change=stacks),
    ),
    "arcee": FamilyCase(
        "ArceeForCausalLM",
        {"head_dim": 8},
        twin=GGUFTwin("ARCEE", is_interleaved=True, metadata=_rotary),
    ),
    "arcee, biases": FamilyCase("ArceeForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "cwm": FamilyCase(
        "CwmForCausalLM",
        {
            "num_hidden_layers": 5,
            "head_dim": 16,
            "sliding_window": 10,
            "rope_parameters": LLAMA3 | {"rope_theta": 1e6, "original_max_position_embeddings": 32},
        },
    ),
    "starcoder2": FamilyCase(
        "Starcoder2ForCausalLM",
        {"sliding_window": None},
        twin=GGUFTwin("STARCODER2", metadata=_rotary),
    ),
    "starcoder2, a window, no biases": FamilyCase(
        "Starcoder2ForCausalLM",
        {"sliding_window": 10, "use_bias": False, "tie_word_embeddings": False},
    ),
    "minimax_m2": FamilyCase(
        "MiniMaxM2ForCausalLM",
        {
            "num_local_experts": 6,
            "num_experts_per_tok": 3,
            "head_dim": 16,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "partial_rotary_factor": 0.5,
            },
        },
        twin=GGUFTwin("MINIMAXM2", metadata=_minimax, change=_minimax_change),
    ),
    "solar_open": FamilyCase("SolarOpenForCausalLM", _ROUTED | {"n_group": 2, "topk_group": 2}),
    "dots1": FamilyCase(
        "Dots1ForCausalLM",
        _ROUTED
        | {
            "num_hidden_layers": 3,
            "first_k_dense_replace": 1,
            "norm_topk_prob": True,
            "num_key_value_heads": 6,
        },
        twin=GGUFTwin("DOTS1", metadata=_dots1, change=_dots1_change),
    ),
    "dots1, windows": FamilyCase(
        "Dots1ForCausalLM",
        _ROUTED | {"sliding_window": 10, "max_window_layers": 1, "attention_bias": True},
    ),
    "hyperclovax": FamilyCase(
        "HyperCLOVAXForCausalLM",
        {
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.2,
            "logits_scaling": 0.7,
        },
    ),
    "hyperclovax, no norms behind": FamilyCase(
        "HyperCLOVAXForCausalLM", {"use_post_norm": False, "tie_word_embeddings": True}
    ),
    "granite_swa": FamilyCase(
        "GraniteSWAForCausalLM",
        {
            "num_hidden_layers": 5,
            "sliding_window": 10,
            "layer_rope_theta": [0, 10000.0, 10000.0, 500.0, 0],
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.2,
            "logits_scaling": 2.0,
        },
    ),
    "mellum": FamilyCase(
        "MellumForCausalLM",
        _EXPERTS
        | {
            "num_hidden_layers": 4,
            "sliding_window": 10,
            "layer_types": [SLIDING, SLIDING, SLIDING, FULL],
        },
        twin=GGUFTwin("QWEN3MOE", metadata=_mellum, change=stacks, written="mellum"),
    ),
    "mellum, dense layers": FamilyCase(
        "MellumForCausalLM",
        _EXPERTS
        | {
            "layer_types": [FULL, FULL],
            "mlp_layer_types": ["dense", "sparse"],
            "norm_topk_prob": False,
            "tie_word_embeddings": True,
        },
    ),
    "glm": FamilyCase("GlmForCausalLM", {"head_dim": 16, "attention_bias": False}),
    "glm4": FamilyCase(
        "Glm4ForCausalLM",
        {"head_dim": 16, "attention_bias": True},
        twin=GGUFTwin("GLM4", metadata=_glm4),
    ),
    "stablelm": FamilyCase(
        "StableLmForCausalLM",
        {"hidden_size": 96, "use_qkv_bias": True},
        twin=GGUFTwin("STABLELM", metadata=stablelm_metadata),
    ),
    "stablelm, side by side": FamilyCase(
        "StableLmForCausalLM",
        {"hidden_size": 96, "use_parallel_residual": True},
        twin=GGUFTwin("STABLELM", metadata=stablelm_metadata),
    ),
    "olmo": FamilyCase(
        "OlmoForCausalLM",
        {},
        twin=GGUFTwin("OLMO", is_interleaved=True, metadata=_olmo),
    ),
    "youtu": FamilyCase(
        "YoutuForCausalLM",
        {
            name: LATENT_FIELDS[name]
            for name in LATENT_FIELDS
            if name.startswith(("kv_", "q_", "qk_", "v_", "num_")) and name != "num_experts_per_tok"
        },
    ),
    "bamba": FamilyCase(
        "BambaForCausalLM",
        {
            "num_hidden_layers": 3,
            "attn_layer_indices": [1],
            "mamba_n_heads": 6,
            "mamba_d_state": 16,
            "mamba_n_groups": 1,
        },
    ),
    "bamba, biases and groups": FamilyCase(
        "BambaForCausalLM",
        {
            "num_hidden_layers": 3,
            "attn_layer_indices": [2],
            "mamba_n_heads": 6,
            "mamba_d_state": 16,
            "mamba_n_groups": 3,
            "mamba_proj_bias": True,
            "attention_bias": True,
            "mlp_bias": True,
        },
    ),
    "mamba2": FamilyCase(
        "Mamba2ForCausalLM",
        _MAMBA2,
        twin=GGUFTwin("MAMBA2", metadata=_mamba2, change=mamba_change),
    ),
    "mamba2, one group": FamilyCase(
        "Mamba2ForCausalLM",
        _MAMBA2 | {"n_groups": 1, "use_bias": True, "tie_word_embeddings": True},
    ),
}
