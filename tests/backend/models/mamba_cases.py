"""Families with Mamba-2 layers: granitemoehybrid, nemotron_h, falcon_h1."""

from typing import Any

import gguf
import torch
from torch import Tensor

from tests.backend.models.family_cases import FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin, NamedTensors

MAMBA, FULL = "linear_attention", "full_attention"


def ssm_metadata(writer: gguf.GGUFWriter, config: Any, *names: str) -> None:
    """Write the sizes of the layers; names: of the configuration's fields that have them."""
    kernel, state, groups, heads, head_dim = (getattr(config, name) for name in names)
    writer.add_ssm_conv_kernel(kernel)
    writer.add_ssm_state_size(state)
    writer.add_ssm_group_count(groups)
    writer.add_ssm_time_step_rank(heads)
    writer.add_ssm_inner_size(heads * head_dim)


def mamba_change(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    """As Mamba2Model has it."""
    if name.endswith(".A_log"):
        tensor = -tensor.exp()[:, None]
    elif name.endswith(".D"):
        tensor = tensor[:, None]
    elif name.endswith(".dt_bias"):
        name = name.replace(".dt_bias", ".dt_proj.bias")
    elif "conv1d.weight" in name:
        tensor = tensor.squeeze(1)
    elif name.endswith(("mamba.norm.weight", "mixer.norm.weight")):
        groups = getattr(config, "mamba_n_groups", getattr(config, "n_groups", 1))
        tensor = tensor.reshape(groups, -1)
    return [(name, tensor)]


_MAMBA_FIELDS = ("mamba_d_conv", "mamba_d_state", "mamba_n_groups", "mamba_n_heads", "mamba_d_head")


def _granite_metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    ssm_metadata(writer, config, *_MAMBA_FIELDS)
    kinds = config.layer_types
    writer.kv_data[0].pop(f"{writer.arch}.attention.head_count_kv")
    writer.add_head_count_kv([config.num_key_value_heads * (kind == FULL) for kind in kinds])
    writer.add_rope_scaling_finetuned(False)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_attention_scale(config.attention_multiplier)
    writer.add_embedding_scale(config.embedding_multiplier)
    writer.add_residual_scale(config.residual_multiplier)
    writer.add_logit_scale(config.logits_scaling)
    writer.add_expert_shared_feed_forward_length(config.shared_intermediate_size)


def _granite_change(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    if name.endswith(("input_linear.weight", "experts.gate_up_proj")):
        stem = name.removesuffix(".input_linear.weight").removesuffix(".experts.gate_up_proj")
        layer = stem.rpartition(".")[0]
        gate, up = tensor.chunk(2, dim=-2)
        if "block_sparse_moe" in name:
            return [
                (f"{layer}.mlp.experts.gate_proj.weight", gate),
                (f"{layer}.mlp.experts.up_proj.weight", up),
            ]
        shared = "mlp.shared_experts" if config.num_local_experts else "mlp"
        return [
            (f"{layer}.{shared}.gate_proj.weight", gate),
            (f"{layer}.{shared}.up_proj.weight", up),
        ]
    if "experts.down_proj" in name or "block_sparse_moe.output_linear" in name:
        layer = name.partition(".block_sparse_moe")[0]
        return [(f"{layer}.mlp.experts.down_proj.weight", tensor)]
    if "block_sparse_moe.router" in name:
        return [(name.replace("router.weight", "router.layer.weight"), tensor)]
    if "shared_mlp.output_linear" in name:
        shared = "mlp.shared_experts" if config.num_local_experts else "mlp"
        return [(name.replace("shared_mlp.output_linear", f"{shared}.down_proj"), tensor)]
    return mamba_change(name, tensor, config)


def _nemotron_metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    sizes = ("conv_kernel", "ssm_state_size", "n_groups", "mamba_num_heads", "mamba_head_dim")
    ssm_metadata(writer, config, *sizes)
    kinds = config.layer_types
    has_experts = "moe" in kinds
    width = config.moe_intermediate_size if has_experts else config.intermediate_size
    feeds = ("moe", "mlp")
    for key in (
        "attention.head_count_kv",
        "feed_forward_length",
        "expert_count",
        "expert_used_count",
    ):
        writer.kv_data[0].pop(f"{writer.arch}.{key}", None)
    writer.add_head_count_kv([config.num_key_value_heads * (kind == FULL) for kind in kinds])
    writer.add_feed_forward_length([width * (kind in feeds) for kind in kinds])
    writer.add_layer_norm_rms_eps(config.layer_norm_epsilon)
    if has_experts:
        writer.add_expert_count(config.n_routed_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_expert_shared_feed_forward_length(config.moe_shared_expert_intermediate_size)
        writer.add_expert_shared_count(1)
        writer.add_expert_weights_norm(config.norm_topk_prob)
        writer.add_expert_weights_scale(config.routed_scaling_factor)
        writer.add_expert_group_count(config.n_group)
        if config.moe_latent_size:
            writer.add_moe_latent_size(config.moe_latent_size)


def _nemotron_change(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    name = name.replace("model.", "backbone.")
    if name.endswith("e_score_correction_bias"):
        return [(name.replace("correction_bias", "correction.bias"), tensor)]
    if "mixer.experts." in name:
        layer, _, part = name.partition(".mixer.experts.")
        return [(f"{layer.replace('backbone', 'model')}.mlp.experts.{part}.weight", tensor)]
    return mamba_change(name, tensor, config)


def _falcon_metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    ssm_metadata(writer, config, *_MAMBA_FIELDS)
    writer.add_key_length(config.hidden_size // config.num_attention_heads)
    writer.add_value_length(config.hidden_size // config.num_attention_heads)


def _falcon_change(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    """As FalconH1Model has it: what multiplies is in the weights."""
    into = config.attention_in_multiplier
    gate, down = config.mlp_multipliers
    shared = config.mamba_n_groups * config.mamba_d_state
    sizes = [config.mamba_d_ssm] * 2 + [shared] * 2 + [config.mamba_n_heads]
    factors = {
        "feed_forward.down_proj": down,
        "feed_forward.gate_proj": gate,
        "k_proj": into * config.key_multiplier,
        "q_proj": into,
        "v_proj": into,
        "o_proj": config.attention_out_multiplier,
        "mamba.out_proj": config.ssm_out_multiplier,
        "lm_head": config.lm_head_multiplier,
        "embed_tokens": config.embedding_multiplier,
    }
    for part, factor in factors.items():
        if part in name:
            tensor = tensor * factor
    if "mamba.in_proj" in name:
        parts = torch.cat(
            [torch.full((n,), m) for n, m in zip(sizes, config.ssm_multipliers, strict=True)]
        )
        tensor = tensor * config.ssm_in_multiplier * parts[:, None]
    return mamba_change(name, tensor, config)


_GRANITE: dict[str, Any] = {
    "num_hidden_layers": 3,
    "layer_types": [MAMBA, FULL, MAMBA],
    "num_local_experts": 6,
    "num_experts_per_tok": 3,
    "intermediate_size": 64,
    "shared_intermediate_size": 96,
    "mamba_n_heads": 6,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.6,
    "attention_multiplier": 0.3,
    "logits_scaling": 2.0,
    "max_position_embeddings": 1024,
}
_NEMOTRON: dict[str, Any] = {
    "layers_block_type": [MAMBA, "mlp", FULL, "mlp", MAMBA],
    "head_dim": 8,
    "mamba_num_heads": 6,
    "mamba_head_dim": 16,
    "n_groups": 3,
    "ssm_state_size": 16,
    # Where steps are raised to it, transformers' prompts differ from its answers.
    "time_step_min": 1e-9,
    "max_position_embeddings": 1024,
}
_NEMOTRON_EXPERTS = _NEMOTRON | {
    "layers_block_type": [MAMBA, "moe", FULL, "moe"],
    "n_routed_experts": 6,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 96,
    "moe_shared_expert_intermediate_size": 64,
    "routed_scaling_factor": 2.5,
}
_FALCON: dict[str, Any] = {
    "mamba_d_ssm": 96,
    "mamba_n_heads": 6,
    "mamba_d_head": 16,
    "mamba_d_state": 32,
    "mamba_n_groups": 1,
    "embedding_multiplier": 2.5,
    "lm_head_multiplier": 0.4,
    "mlp_multipliers": [0.88, 0.6],
    "key_multiplier": 0.4,
    "attention_in_multiplier": 1.3,
    "attention_out_multiplier": 0.7,
    "ssm_in_multiplier": 1.25,
    "ssm_out_multiplier": 0.3,
    "ssm_multipliers": [0.35, 0.25, 0.18, 0.5, 0.4],
    "max_position_embeddings": 1024,
}
GRANITE_TWIN = GGUFTwin("GRANITE_HYBRID", metadata=_granite_metadata, change=_granite_change)
FALCON_TWIN = GGUFTwin("FALCON_H1", metadata=_falcon_metadata, change=_falcon_change)

_LONG_SIZES = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
# For long prompts, and with heads that our own attention and state space take.
LONG_MAMBAS = {
    "granitemoehybrid": FamilyCase(
        "GraniteMoeHybridForCausalLM",
        _GRANITE | _LONG_SIZES | {"mamba_n_heads": 4, "mamba_d_head": 32},
        num_tokens=700,
    ),
    "nemotron_h": FamilyCase(
        "NemotronHForCausalLM", _NEMOTRON | _LONG_SIZES | {"head_dim": 16}, num_tokens=700
    ),
    "falcon_h1": FamilyCase("FalconH1ForCausalLM", _FALCON | _LONG_SIZES, num_tokens=700),
}
# Heads that our own attention takes, over two ranks unevenly and over three evenly.
_WIDE: dict[str, Any] = {"hidden_size": 96, "mamba_n_heads": 12, "mamba_d_head": 16}

MAMBAS = {
    "granitemoehybrid": FamilyCase("GraniteMoeHybridForCausalLM", _GRANITE, twin=GRANITE_TWIN),
    "granitemoehybrid, dense, groups": FamilyCase(
        "GraniteMoeHybridForCausalLM",
        _GRANITE
        | {
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "intermediate_size": 96,
            "mamba_n_groups": 3,
            "layer_types": [FULL, MAMBA, MAMBA],
        },
        twin=GRANITE_TWIN,
    ),
    "granitemoehybrid, rope, limits": FamilyCase(
        "GraniteMoeHybridForCausalLM",
        _GRANITE
        | {
            "position_embedding_type": "rope",
            "time_step_limit": [0.9, 1.2],
            "mamba_conv_bias": False,
            "mamba_proj_bias": True,
            "tie_word_embeddings": True,
        },
        json={"layer_types": ["mamba", "attention", "mamba"]},
    ),
    "nemotron_h": FamilyCase(
        "NemotronHForCausalLM",
        _NEMOTRON,
        twin=GGUFTwin("NEMOTRON_H", metadata=_nemotron_metadata, change=_nemotron_change),
    ),
    "nemotron_h, experts": FamilyCase(
        "NemotronHForCausalLM",
        _NEMOTRON_EXPERTS,
        twin=GGUFTwin("NEMOTRON_H_MOE", metadata=_nemotron_metadata, change=_nemotron_change),
    ),
    "nemotron_h, latent experts": FamilyCase(
        "NemotronHForCausalLM",
        _NEMOTRON_EXPERTS | {"moe_latent_size": 32, "n_group": 2, "use_bias": True},
    ),
    "falcon_h1": FamilyCase("FalconH1ForCausalLM", _FALCON, twin=FALCON_TWIN),
    "falcon_h1, norms": FamilyCase(
        "FalconH1ForCausalLM",
        _FALCON | {"mamba_rms_norm": True, "mamba_norm_before_gate": False, "mamba_n_groups": 3},
        twin=FALCON_TWIN,
    ),
    "falcon_h1, norms first": FamilyCase(
        "FalconH1ForCausalLM",
        _FALCON | {"mamba_rms_norm": True, "mamba_norm_before_gate": True},
    ),
    "falcon_h1, groups without norms": FamilyCase(
        "FalconH1ForCausalLM", _FALCON | {"mamba_n_groups": 2}
    ),
}
OWN_KERNELS = {
    "granitemoehybrid": FamilyCase(
        "GraniteMoeHybridForCausalLM", _GRANITE | _WIDE, twin=GRANITE_TWIN
    ),
    "nemotron_h": FamilyCase(
        "NemotronHForCausalLM",
        _NEMOTRON_EXPERTS | {"head_dim": 16},
        twin=GGUFTwin("NEMOTRON_H_MOE", metadata=_nemotron_metadata, change=_nemotron_change),
    ),
    "falcon_h1": FamilyCase(
        "FalconH1ForCausalLM",
        _FALCON
        | _WIDE
        | {"mamba_d_ssm": 192, "mamba_rms_norm": True, "mamba_n_groups": 3}
        | {"mamba_norm_before_gate": False},
        twin=FALCON_TWIN,
    ),
}
