"""Tiny models of delta nets and gated attention: qwen3_5, qwen3_5_moe, qwen3_next."""

from collections.abc import Iterable
from typing import Any

import gguf
import torch
from torch import Tensor

from tests.backend.models.expert_cases import stacks, widths
from tests.backend.models.family_cases import SIZES, FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin


def _metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    """As Qwen3NextModel and _Qwen35MRopeMixin of the converter have it."""
    writer.add_ssm_conv_kernel(config.linear_conv_kernel_dim)
    writer.add_ssm_state_size(config.linear_key_head_dim)
    writer.add_ssm_group_count(config.linear_num_key_heads)
    writer.add_ssm_time_step_rank(config.linear_num_value_heads)
    writer.add_ssm_inner_size(config.linear_value_head_dim * config.linear_num_value_heads)
    writer.add_full_attention_interval(4)
    writer.add_rope_dimension_count(
        int(config.head_dim * config.rope_parameters["partial_rotary_factor"])
    )
    if config.model_type != "qwen3_next":
        writer.add_rope_dimension_sections([1, 1, 0, 0])
    if hasattr(config, "moe_intermediate_size"):
        widths(writer, config)


def _change(name: str, tensor: Tensor, config: Any) -> Iterable[tuple[str, Tensor]]:
    if name.endswith(".A_log"):
        tensor = -tensor.exp()
    elif name.endswith(".dt_bias"):
        name = name.replace(".dt_bias", ".dt_proj.bias")
    elif "conv1d" in name:
        tensor = tensor.squeeze(1)
    elif name.endswith("norm.weight") and not name.endswith("linear_attn.norm.weight"):
        tensor = tensor + 1
    if "in_proj_qkvz" in name:
        return _qkvz(name, tensor, config)
    return stacks(name, tensor, config)


def _qkvz(name: str, tensor: Tensor, config: Any) -> Iterable[tuple[str, Tensor]]:
    """[q, k, v, z] of each key head -> those of all, one below the other."""
    keys = config.linear_num_key_heads
    values = config.linear_num_value_heads // keys * config.linear_value_head_dim
    sizes = [config.linear_key_head_dim] * 2 + [values] * 2
    heads = tensor.reshape(keys, -1, tensor.shape[1])
    q, k, v, z = (part.flatten(0, 1) for part in torch.split(heads, sizes, 1))
    return [
        (name.replace("qkvz", "qkv"), torch.cat((q, k, v))),
        (name.replace("qkvz", "z"), z),
    ]


def _reordered(name: str, tensor: Tensor, config: Any) -> Iterable[tuple[str, Tensor]]:
    """Value heads of one key head come to stand apart, as _LinearAttentionVReorderBase has it."""
    keys = 2 * config.linear_num_key_heads * config.linear_key_head_dim
    dim = config.linear_value_head_dim
    if ".in_proj_qkv." in name or ".conv1d." in name:
        tensor = torch.cat((tensor[:keys], _apart(tensor[keys:], dim, config)))
    elif ".in_proj_z." in name:
        tensor = _apart(tensor, dim, config)
    elif any(part in name for part in (".in_proj_a.", ".in_proj_b.", ".A_log", ".dt_bias")):
        tensor = _apart(tensor, 1, config)
    elif ".linear_attn.out_proj." in name:
        tensor = _apart(tensor.T, dim, config).T
    return _change(name, tensor, config)


def _apart(tensor: Tensor, dim: int, config: Any) -> Tensor:
    heads = tensor.reshape(config.linear_num_key_heads, -1, dim, *tensor.shape[1:])
    return heads.transpose(0, 1).reshape(tensor.shape)


DELTA: dict[str, Any] = {
    "num_hidden_layers": 4,
    "head_dim": 16,
    "linear_num_key_heads": 3,
    "linear_num_value_heads": 6,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "max_position_embeddings": 1024,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25,
        "mrope_section": [1, 1, 0],
    },
}
_NEXT = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
DELTA_EXPERTS = {
    "num_experts": 6,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 96,
    "shared_expert_intermediate_size": 128,
}
_VISION = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "depth": 1,
    "num_heads": 2,
    "out_hidden_size": 48,
    "num_position_embeddings": 4,
}

DELTA_NETS = {
    "qwen3_5": FamilyCase(
        "Qwen3_5ForCausalLM",
        DELTA,
        twin=GGUFTwin("QWEN35", metadata=_metadata, change=_reordered),
    ),
    "qwen3_5, seeing": FamilyCase(
        "Qwen3_5ForConditionalGeneration",
        {"text_config": SIZES | DELTA, "vision_config": _VISION},
        is_whole=True,
    ),
    "qwen3_5, other layers": FamilyCase(
        "Qwen3_5ForCausalLM",
        DELTA
        | {
            "num_hidden_layers": 3,
            "layer_types": ["full_attention", "linear_attention", "linear_attention"],
            "linear_num_value_heads": 3,
            "linear_value_head_dim": 32,
            "linear_conv_kernel_dim": 3,
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3_5_moe": FamilyCase(
        "Qwen3_5MoeForCausalLM",
        DELTA | DELTA_EXPERTS,
        twin=GGUFTwin("QWEN35MOE", metadata=_metadata, change=_reordered),
    ),
    "qwen3_next": FamilyCase(
        "Qwen3NextForCausalLM",
        DELTA | DELTA_EXPERTS | {"rope_parameters": _NEXT},
        twin=GGUFTwin("QWEN3NEXT", metadata=_metadata, change=_change),
    ),
    "qwen3_next, dense layers": FamilyCase(
        "Qwen3NextForCausalLM",
        DELTA
        | DELTA_EXPERTS
        | {"rope_parameters": _NEXT, "mlp_only_layers": [1], "norm_topk_prob": False},
    ),
}
