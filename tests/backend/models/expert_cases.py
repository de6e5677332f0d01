"""Tiny models with experts: mixtral, qwen2_moe, qwen3_moe, granitemoe, olmoe."""

from collections.abc import Iterable
from typing import Any

import gguf
from torch import Tensor

from tests.backend.models.family_cases import FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin


def stacks(name: str, tensor: Tensor, config: Any) -> Iterable[tuple[str, Tensor]]:
    """Split transformers' stacks of gates above what they gate, as the converter does."""
    if name.endswith("experts.gate_up_proj"):
        gate, up = tensor.chunk(2, dim=1)
        return [
            (name.replace("gate_up_proj", "gate_proj.weight"), gate),
            (name.replace("gate_up_proj", "up_proj.weight"), up),
        ]
    if name.endswith("experts.down_proj"):
        return [(f"{name}.weight", tensor)]
    return [(name, tensor)]


def _mixtral(name: str, tensor: Tensor, config: Any) -> Iterable[tuple[str, Tensor]]:
    names = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    name = name.replace(".mlp.gate.", ".block_sparse_moe.gate.")
    for written, part in stacks(name, tensor, config):
        for ours, theirs in names.items():
            if f"experts.{ours}" in written:
                written = written.replace(ours, theirs).replace("model.", "")
                written = written.replace(".mlp.", ".feed_forward.")
        yield written, part


def _granite(name: str, tensor: Tensor, config: Any) -> Iterable[tuple[str, Tensor]]:
    if name.endswith("shared_mlp.input_linear.weight"):
        gate, up = tensor.chunk(2)
        prefix = name.removesuffix("shared_mlp.input_linear.weight")
        return [
            (f"{prefix}mlp.shared_expert.gate_proj.weight", gate),
            (f"{prefix}mlp.shared_expert.up_proj.weight", up),
        ]
    name = name.replace("shared_mlp.output_linear", "mlp.shared_expert.down_proj")
    name = name.replace("block_sparse_moe.router.weight", "block_sparse_moe.router.layer.weight")
    return stacks(name.replace("block_sparse_moe.experts", "mlp.experts"), tensor, config)


def widths(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if shared := getattr(config, "shared_expert_intermediate_size", 0):
        writer.add_expert_shared_feed_forward_length(shared)


def _multipliers(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_attention_scale(config.attention_multiplier)
    writer.add_embedding_scale(config.embedding_multiplier)
    writer.add_residual_scale(config.residual_multiplier)
    writer.add_logit_scale(config.logits_scaling)
    if shared := getattr(config, "shared_intermediate_size", 0):
        writer.add_expert_shared_feed_forward_length(shared)


def _ernie(writer: gguf.GGUFWriter, config: Any) -> None:
    head_dim = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    writer.add_rope_dimension_count(head_dim)
    if config.model_type == "ernie4_5":
        return
    writer.add_expert_count(config.moe_num_experts)
    writer.add_expert_used_count(config.moe_k)
    writer.add_interleave_moe_layer_step(config.moe_layer_interval)
    writer.add_leading_dense_block_count(config.moe_layer_start_index)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    shared = config.moe_num_shared_experts
    writer.add_expert_shared_count(shared)
    writer.add_expert_shared_feed_forward_length(shared * config.moe_intermediate_size)


def _ernie_stacks(name: str, tensor: Tensor, config: Any) -> Iterable[tuple[str, Tensor]]:
    if name.endswith("e_score_correction_bias"):
        name = name.replace(".gate.", ".").replace("_bias", ".bias")
        return [(name, tensor.squeeze())]
    return stacks(name, tensor, config)


_ERNIE: dict[str, Any] = {
    "num_hidden_layers": 4,
    "moe_num_experts": 6,
    "moe_k": 3,
    "moe_intermediate_size": 96,
}
_QWEN2 = {
    "num_experts": 6,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 96,
    "shared_expert_intermediate_size": 128,
}
_QWEN3 = {
    "num_experts": 6,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 96,
    "head_dim": 16,
}
_GRANITE = {
    "num_local_experts": 6,
    "num_experts_per_tok": 3,
    "intermediate_size": 96,
    "attention_multiplier": 0.2,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.5,
    "logits_scaling": 2.0,
    "tie_word_embeddings": True,
}
_GRANITE_TWIN = GGUFTwin("GRANITE_MOE", True, metadata=_multipliers, change=_granite)

EXPERTS = {
    "mixtral": FamilyCase(
        "MixtralForCausalLM",
        {"num_local_experts": 6, "intermediate_size": 96},
        twin=GGUFTwin("LLAMA", is_interleaved=True, change=_mixtral),
    ),
    "mixtral, window": FamilyCase(
        "MixtralForCausalLM",
        {"num_local_experts": 4, "intermediate_size": 96, "sliding_window": 10},
    ),
    "qwen2_moe": FamilyCase(
        "Qwen2MoeForCausalLM", _QWEN2, twin=GGUFTwin("QWEN2MOE", metadata=widths, change=stacks)
    ),
    "qwen2_moe, dense layers and windows": FamilyCase(
        "Qwen2MoeForCausalLM",
        _QWEN2
        | {
            "num_hidden_layers": 4,
            "decoder_sparse_step": 2,
            "mlp_only_layers": [3],
            "norm_topk_prob": True,
            "qkv_bias": False,
            "use_sliding_window": True,
            "sliding_window": 10,
            "max_window_layers": 2,
        },
    ),
    "qwen3_moe": FamilyCase(
        "Qwen3MoeForCausalLM",
        _QWEN3 | {"norm_topk_prob": True},
        twin=GGUFTwin("QWEN3MOE", metadata=widths, change=stacks),
    ),
    "qwen3_moe, dense layers and windows": FamilyCase(
        "Qwen3MoeForCausalLM",
        _QWEN3
        | {
            "num_hidden_layers": 3,
            "mlp_only_layers": [1],
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 10,
        },
    ),
    "granitemoe": FamilyCase("GraniteMoeForCausalLM", _GRANITE, twin=_GRANITE_TWIN),
    "granitemoe, shared": FamilyCase(
        "GraniteMoeSharedForCausalLM",
        _GRANITE | {"shared_intermediate_size": 128},
        twin=_GRANITE_TWIN,
    ),
    "ernie4_5": FamilyCase(
        "Ernie4_5ForCausalLM", {"head_dim": 16}, twin=GGUFTwin("ERNIE4_5", metadata=_ernie)
    ),
    "ernie4_5, biases": FamilyCase(
        "Ernie4_5ForCausalLM", {"head_dim": 16, "use_bias": True, "tie_word_embeddings": False}
    ),
    "ernie4_5, experts": FamilyCase(
        "Ernie4_5_MoeForCausalLM",
        _ERNIE,
        twin=GGUFTwin("ERNIE4_5_MOE", metadata=_ernie, change=_ernie_stacks),
    ),
    "ernie4_5, experts in some layers": FamilyCase(
        "Ernie4_5_MoeForCausalLM",
        _ERNIE | {"moe_layer_interval": 2, "moe_layer_end_index": 2, "moe_num_shared_experts": 0},
    ),
    # llama.cpp takes as many KV heads as query heads alone.
    "olmoe": FamilyCase(
        "OlmoeForCausalLM",
        {
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "intermediate_size": 96,
            "num_key_value_heads": 6,
        },
        twin=GGUFTwin("OLMOE", change=stacks),
    ),
    "olmoe, renormalised": FamilyCase(
        "OlmoeForCausalLM",
        {
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "intermediate_size": 96,
            "norm_topk_prob": True,
            "attention_bias": True,
        },
    ),
}
