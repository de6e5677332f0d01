"""Tiny models of llama, mistral, qwen, phi3, smollm3 and olmo."""

import math
from typing import Any

import gguf

from tests.backend.models.family_cases import REMOVED, FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin, longrope_factors, rope_freqs

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
YARN: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONGROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.5, 2.0],
    "long_factor": [1.5, 3.0, 4.0],
}


def _llama(writer: gguf.GGUFWriter, config: Any) -> None:
    head_dim = getattr(config, "head_dim", None)
    writer.add_rope_dimension_count(head_dim or config.hidden_size // config.num_attention_heads)


def _mistral3(writer: gguf.GGUFWriter, config: Any) -> None:
    _llama(writer, config)
    if config.model_type == "ministral3":
        writer.add_rope_scaling_yarn_log_mul(config.rope_parameters["mscale_all_dim"])
        writer.add_attn_temperature_scale(config.rope_parameters["llama_4_scaling_beta"])


def _phi3(writer: gguf.GGUFWriter, config: Any) -> None:
    rope = config.rope_parameters
    head_dim = config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(int(rope["partial_rotary_factor"] * head_dim))
    original = config.original_max_position_embeddings
    writer.add_rope_scaling_orig_ctx_len(original)
    writer.add_sliding_window(config.sliding_window or 0)
    scale = config.max_position_embeddings / original
    if "long_factor" in rope:
        attn_factor = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
        writer.add_rope_scaling_attn_factors(attn_factor)


def _olmo3(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_sliding_window(config.sliding_window)
    writer.add_sliding_window_pattern([t == "sliding_attention" for t in config.layer_types])


_LLAMA = GGUFTwin("LLAMA", is_interleaved=True, metadata=_llama, extra=rope_freqs)
_MISTRAL3 = GGUFTwin("MISTRAL3", is_interleaved=True, metadata=_mistral3)
_PHI3 = GGUFTwin("PHI3", metadata=_phi3, extra=longrope_factors)

_MINISTRAL: dict[str, Any] = {
    "head_dim": 16,
    "rope_parameters": YARN
    | {"mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.3, "beta_fast": 4.0}
    | {"original_max_position_embeddings": 16},
}
TINY_EYES: dict[str, Any] = {
    "model_type": "pixtral",
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "head_dim": 16,
    "image_size": 28,
    "patch_size": 14,
}
_TEXT: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 16,
    "max_position_embeddings": 128,
}

LLAMA_LIKE = {
    "llama": FamilyCase("LlamaForCausalLM", {"tie_word_embeddings": True}, twin=_LLAMA),
    "llama, biases": FamilyCase(
        "LlamaForCausalLM",
        {"head_dim": 16, "attention_bias": True, "mlp_bias": True},
        twin=_LLAMA,
    ),
    # As a GGUF file a Llama may have biases that it cannot have as a directory.
    "llama, biases but of what comes out": FamilyCase("Qwen2ForCausalLM", twin=_LLAMA),
    "llama, llama3": FamilyCase(
        "LlamaForCausalLM",
        {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": 32, "rope_theta": 5e5}},
        twin=_LLAMA,
    ),
    "llama, yarn": FamilyCase("LlamaForCausalLM", {"rope_parameters": YARN}, twin=_LLAMA),
    "llama, yarn, attention factor": FamilyCase(
        "LlamaForCausalLM", {"rope_parameters": YARN | {"attention_factor": 1.2}}, twin=_LLAMA
    ),
    "llama, older layout": FamilyCase(
        "LlamaForCausalLM",
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 7e4}},
        json={
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
            "rope_scaling": {"type": "linear", "factor": 4.0},
            "rope_theta": 7e4,
        },
        twin=_LLAMA,
    ),
    "mistral": FamilyCase("MistralForCausalLM", {"head_dim": 16, "sliding_window": 10}),
    "mistral, no window": FamilyCase(
        "MistralForCausalLM", {"head_dim": 16, "sliding_window": None}, twin=_LLAMA
    ),
    "ministral": FamilyCase(
        "MinistralForCausalLM",
        {
            "head_dim": 16,
            "sliding_window": 10,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "ministral3": FamilyCase("Ministral3ForCausalLM", _MINISTRAL, twin=_MISTRAL3),
    "mistral3": FamilyCase(
        "Mistral3ForConditionalGeneration",
        {
            "text_config": _TEXT | {"model_type": "mistral", "sliding_window": None},
            "vision_config": TINY_EYES,
            "tie_word_embeddings": False,
        },
        is_whole=True,
        twin=_MISTRAL3,
    ),
    "mistral3, ministral3": FamilyCase(
        "Mistral3ForConditionalGeneration",
        {
            "text_config": _TEXT | {"model_type": "ministral3"} | _MINISTRAL,
            "vision_config": TINY_EYES,
            "tie_word_embeddings": True,
        },
        is_whole=True,
        twin=_MISTRAL3,
    ),
    "qwen2": FamilyCase("Qwen2ForCausalLM", twin=GGUFTwin("QWEN2")),
    "qwen2, windows": FamilyCase(
        "Qwen2ForCausalLM",
        {
            "num_hidden_layers": 3,
            "use_sliding_window": True,
            "sliding_window": 10,
            "max_window_layers": 1,
        },
        json={"layer_types": REMOVED},
    ),
    "qwen3": FamilyCase(
        "Qwen3ForCausalLM",
        {"head_dim": 16, "tie_word_embeddings": True},
        twin=GGUFTwin("QWEN3"),
    ),
    "qwen3, biases": FamilyCase(
        "Qwen3ForCausalLM",
        # llama.cpp has no bias of what comes out.
        {"head_dim": 16, "attention_bias": True},
    ),
    "qwen3, windows": FamilyCase(
        "Qwen3ForCausalLM",
        {
            "head_dim": 16,
            "use_sliding_window": True,
            "sliding_window": 10,
            "max_window_layers": 0,
            "layer_types": ["full_attention", "sliding_attention"],
        },
    ),
    "phi3": FamilyCase("Phi3ForCausalLM", {"sliding_window": 10}, twin=_PHI3),
    "phi3, longrope": FamilyCase(
        "Phi3ForCausalLM",
        {
            "rope_parameters": LONGROPE | {"partial_rotary_factor": 0.75},
            "original_max_position_embeddings": 32,
            "tie_word_embeddings": True,
        },
        twin=_PHI3,
    ),
    "phi3, longrope, short": FamilyCase(
        "Phi3ForCausalLM",
        {
            "rope_parameters": LONGROPE | {"partial_rotary_factor": 0.75},
            # llama.cpp rounds a context up to so much, and compares what it has then.
            "max_position_embeddings": 256,
            "original_max_position_embeddings": 256,
        },
        twin=_PHI3,
    ),
    "smollm3": FamilyCase(
        "SmolLM3ForCausalLM",
        {"num_hidden_layers": 4},
        twin=GGUFTwin("SMOLLM3", is_interleaved=True, metadata=_llama),
    ),
    "smollm3, windows": FamilyCase(
        "SmolLM3ForCausalLM",
        {
            "num_hidden_layers": 3,
            "no_rope_layers": [1, 0, 1],
            "use_sliding_window": True,
            "sliding_window": 10,
            "attention_bias": True,
            "mlp_bias": True,
        },
    ),
    "olmo2": FamilyCase("Olmo2ForCausalLM", twin=GGUFTwin("OLMO2")),
    "olmo2, biases": FamilyCase("Olmo2ForCausalLM", {"attention_bias": True}),
    "olmo3": FamilyCase(
        "Olmo3ForCausalLM",
        {
            "num_hidden_layers": 4,
            "sliding_window": 10,
            "rope_parameters": {
                "full_attention": YARN,
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
        twin=GGUFTwin("OLMO2", metadata=_olmo3),
    ),
    "olmo3, older layout": FamilyCase(
        "Olmo3ForCausalLM",
        {
            "sliding_window": 10,
            "layer_types": ["full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": YARN | {"rope_theta": 5e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 5e5},
            },
        },
        json={
            "rope_parameters": REMOVED,
            "rope_theta": 5e5,
            "rope_scaling": {n: v for n, v in YARN.items() if n != "rope_theta"},
        },
        twin=GGUFTwin("OLMO2", metadata=_olmo3),
    ),
}
