"""Tiny models with compressed keys: deepseek_v2, deepseek_v3, glm4_moe_lite, mistral4."""

from collections.abc import Iterable
from typing import Any

import gguf
import torch
from torch import Tensor

from tests.backend.models.expert_cases import stacks
from tests.backend.models.family_cases import SIZES, FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin
from tests.backend.models.llama_like_cases import TINY_EYES


def _change(name: str, tensor: Tensor, config: Any) -> Iterable[tuple[str, Tensor]]:
    """Take apart what expands keys and values, as the converter does."""
    if name.endswith("kv_b_proj.weight"):
        sizes = [config.qk_nope_head_dim, config.v_head_dim]
        heads = tensor.view(config.num_attention_heads, sum(sizes), -1)
        keys, values = torch.split(heads, sizes, dim=1)
        return [
            (name.replace("kv_b_proj", "k_b_proj"), keys.transpose(1, 2)),
            (name.replace("kv_b_proj", "v_b_proj"), values),
        ]
    if name.endswith("e_score_correction_bias"):
        return [(name.replace("_bias", ".bias"), tensor)]
    return stacks(name, tensor, config)


def _metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    width = config.kv_lora_rank + config.qk_rope_head_dim
    writer.add_head_count_kv(1)
    writer.add_key_length(width)
    writer.add_value_length(config.kv_lora_rank)
    writer.add_key_length_mla(config.qk_nope_head_dim + config.qk_rope_head_dim)
    writer.add_value_length_mla(config.v_head_dim)
    writer.add_kv_lora_rank(config.kv_lora_rank)
    if config.q_lora_rank is not None:
        writer.add_q_lora_rank(config.q_lora_rank)
    writer.add_rope_dimension_count(config.qk_rope_head_dim)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_expert_count(config.n_routed_experts)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    writer.add_expert_weights_norm(bool(config.norm_topk_prob))
    dense = getattr(config, "first_k_dense_replace", None)
    types = getattr(config, "mlp_layer_types", [])
    writer.add_leading_dense_block_count(types.count("dense") if dense is None else dense)
    if config.n_group and config.n_group > 1:
        writer.add_expert_group_count(config.n_group)
        writer.add_expert_group_used_count(config.topk_group)
    is_softmax = config.model_type == "deepseek_v2"
    kinds = gguf.ExpertGatingFuncType
    writer.add_expert_gating_func(kinds.SOFTMAX if is_softmax else kinds.SIGMOID)
    if of_all := config.rope_parameters.get("mscale_all_dim"):
        writer.add_rope_scaling_yarn_log_mul(0.1 * of_all)


def _glm_metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    head_dim = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    writer.add_rope_dimension_count(int(head_dim * config.rope_parameters["partial_rotary_factor"]))
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_expert_count(config.n_routed_experts)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    writer.add_expert_weights_norm(config.norm_topk_prob)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    writer.add_leading_dense_block_count(config.first_k_dense_replace)


GLM_TWIN = GGUFTwin("GLM4_MOE", metadata=_glm_metadata, change=_change)
TWIN = GGUFTwin("DEEPSEEK2", metadata=_metadata, change=_change)
_YARN: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}
FIELDS: dict[str, Any] = {
    "num_hidden_layers": 3,
    "num_key_value_heads": 6,
    "moe_intermediate_size": 96,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 1,
    "kv_lora_rank": 32,
    "q_lora_rank": 64,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 32,
    "v_head_dim": 16,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.5,
}
_GROUPS = {"n_group": 4, "topk_group": 2}
_GLM_MOE: dict[str, Any] = {
    "num_hidden_layers": 3,
    "hidden_size": 96,
    "moe_intermediate_size": 96,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.5,
}
_GLM = {name: value for name, value in FIELDS.items() if name != "first_k_dense_replace"}

LATENT = {
    "deepseek_v3": FamilyCase(
        "DeepseekV3ForCausalLM", FIELDS | _GROUPS | {"rope_parameters": _YARN}, twin=TWIN
    ),
    "deepseek_v3, halves and biases": FamilyCase(
        "DeepseekV3ForCausalLM",
        FIELDS
        | {
            "n_group": 1,
            "topk_group": 1,
            "rope_interleave": False,
            "attention_bias": True,
            "norm_topk_prob": False,
            "first_k_dense_replace": 0,
        },
    ),
    "deepseek_v2": FamilyCase(
        "DeepseekV2ForCausalLM",
        FIELDS | {"rope_parameters": _YARN | {"mscale": 0.7, "mscale_all_dim": 0.7}},
        twin=TWIN,
    ),
    # llama.cpp knows it by its 27 layers.
    "deepseek_v2, lite": FamilyCase(
        "DeepseekV2ForCausalLM", FIELDS | {"q_lora_rank": None, "tie_word_embeddings": True}
    ),
    "deepseek_v2, groups": FamilyCase(
        "DeepseekV2ForCausalLM", FIELDS | _GROUPS | {"topk_method": "group_limited_greedy"}
    ),
    "glm4_moe_lite": FamilyCase("Glm4MoeLiteForCausalLM", _GLM | {"rms_norm_eps": 1e-5}),
    "glm4_moe_lite, one eps": FamilyCase(
        "Glm4MoeLiteForCausalLM", _GLM | {"rms_norm_eps": 1e-6}, twin=TWIN
    ),
    # No compressed keys, and the router of those that have them.
    "glm4_moe": FamilyCase(
        "Glm4MoeForCausalLM",
        _GLM_MOE | {"head_dim": 16, "use_qk_norm": True, "attention_bias": True},
        twin=GLM_TWIN,
    ),
    "glm4_moe, plain": FamilyCase(
        "Glm4MoeForCausalLM", _GLM_MOE | _GROUPS | {"norm_topk_prob": False}
    ),
    "mistral4": FamilyCase(
        "Mistral4ForCausalLM",
        FIELDS
        | {
            "first_k_dense_replace": 0,
            "n_group": 1,
            "topk_group": 1,
            "rope_parameters": _YARN
            | {"llama_4_scaling_beta": 0.3, "original_max_position_embeddings": 16},
        },
    ),
    "mistral4, inside a model that sees": FamilyCase(
        "Mistral3ForConditionalGeneration",
        {
            "text_config": SIZES
            | FIELDS
            | {"model_type": "mistral4", "n_group": 1, "topk_group": 1, "head_dim": 40},
            "vision_config": TINY_EYES,
            "tie_word_embeddings": False,
        },
        is_whole=True,
    ),
}
