"""Tiny models of more families that differ from others by little."""

from typing import Any

import gguf
from torch import Tensor

from tests.backend.models.expert_cases import stacks
from tests.backend.models.family_cases import FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin, NamedTensors


def _rotary(writer: gguf.GGUFWriter, config: Any) -> None:
    share = config.rope_parameters.get("partial_rotary_factor", 1.0)
    writer.add_rope_dimension_count(int(share * config.head_dim))


def _nemotron(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_layer_norm_eps(config.norm_eps)
    _rotary(writer, config)


def _nemotron_change(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    return [(name, tensor + 1 if name.endswith("norm.weight") else tensor)]


def _hunyuan(writer: gguf.GGUFWriter, config: Any) -> None:
    rope = config.rope_parameters
    if alpha := rope.get("alpha"):
        dim = config.head_dim
        writer.kv_data[0].pop(f"{writer.arch}.rope.freq_base")
        writer.add_rope_freq_base(rope["rope_theta"] * alpha ** (dim / (dim - 2)))
    if hasattr(config, "moe_topk"):
        writer.add_expert_feed_forward_length(config.intermediate_size)
        writer.add_expert_shared_feed_forward_length(config.intermediate_size)
        writer.add_expert_shared_count(1)


def _starcoder(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_feed_forward_length(4 * config.n_embd)


def _afmoe(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_expert_shared_count(config.num_shared_experts)
    writer.add_expert_weights_norm(True)
    writer.add_expert_weights_scale(config.route_scale)
    writer.add_leading_dense_block_count(config.num_dense_layers)
    writer.add_sliding_window(config.sliding_window)


def _afmoe_change(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    return stacks(name.replace("mlp.expert_bias", "mlp.expert_bias.bias"), tensor, config)


_BIGCODE: dict[str, Any] = {
    "vocab_size": 96,
    "n_embd": 48,
    "n_layer": 2,
    "n_head": 6,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_AFMOE: dict[str, Any] = {
    "num_hidden_layers": 5,
    "head_dim": 16,
    "num_experts": 6,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 96,
    "num_shared_experts": 1,
    "sliding_window": 10,
    "route_scale": 1.5,
}

LATER = {
    "helium": FamilyCase("HeliumForCausalLM", {"head_dim": 8}),
    "helium, biases": FamilyCase(
        "HeliumForCausalLM", {"head_dim": 8, "attention_bias": True, "mlp_bias": True}
    ),
    "nemotron": FamilyCase(
        "NemotronForCausalLM",
        {"head_dim": 16, "hidden_size": 96},
        twin=GGUFTwin("NEMOTRON", metadata=_nemotron, change=_nemotron_change),
    ),
    "nemotron, biases": FamilyCase(
        "NemotronForCausalLM",
        {"attention_bias": True, "mlp_bias": True, "hidden_act": "silu", "hidden_size": 96},
    ),
    "jais2": FamilyCase(
        "Jais2ForCausalLM",
        {},
        twin=GGUFTwin("JAIS2", metadata=_rotary),
    ),
    "hunyuan": FamilyCase(
        "HunYuanDenseV1ForCausalLM",
        {
            "head_dim": 16,
            "rope_parameters": {
                "rope_type": "dynamic",
                "rope_theta": 10000.0,
                "alpha": 50.0,
                "factor": 1.0,
            },
        },
        twin=GGUFTwin("HUNYUAN_DENSE", metadata=_hunyuan),
    ),
    "hunyuan, biases, tied": FamilyCase(
        "HunYuanDenseV1ForCausalLM",
        {"head_dim": 8, "attention_bias": True, "tie_word_embeddings": True},
    ),
    "hunyuan, experts": FamilyCase(
        "HunYuanMoEV1ForCausalLM",
        {"head_dim": 16, "num_experts": 6, "moe_topk": 3},
        twin=GGUFTwin("HUNYUAN_MOE", metadata=_hunyuan, change=stacks),
    ),
    "gpt_bigcode": FamilyCase(
        "GPTBigCodeForCausalLM",
        _BIGCODE,
        is_whole=True,
        twin=GGUFTwin("STARCODER", metadata=_starcoder),
        ranks=(1,),  # of its one KV head no two ranks have a part
    ),
    "gpt_bigcode, all heads": FamilyCase(
        "GPTBigCodeForCausalLM",
        _BIGCODE | {"multi_query": False, "n_inner": 96, "scale_attn_weights": False},
        is_whole=True,
    ),
    "afmoe": FamilyCase(
        "AfmoeForCausalLM",
        _AFMOE | {"mup_enabled": True},
        twin=GGUFTwin("AFMOE", metadata=_afmoe, change=_afmoe_change),
    ),
    "afmoe, all dense": FamilyCase(
        "AfmoeForCausalLM", _AFMOE | {"num_dense_layers": 5, "tie_word_embeddings": True}
    ),
}
