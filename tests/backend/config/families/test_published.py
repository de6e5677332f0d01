"""Fields of published config.json files: old ones, odd ones, and what they come to."""

from typing import Any

import pytest

from backend.config.architectures import HF_ARCHITECTURES, load_family
from tests.backend.config.families.family_config import config_of

# What nearly all of them have.
_COMMON: dict[str, Any] = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0",
    "use_cache": True,
    "vocab_size": 1000,
}
_SIZES: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
}
# architecture, fields -> context, first layer's window, numbers that turn, base, scaling.
PUBLISHED: dict[str, tuple[str, dict[str, Any], tuple[int, int, int, float, str]]] = {
    "Phi-4-mini": (
        "Phi3ForCausalLM",
        {
            "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
            "attention_bias": False,
            "embd_pdrop": 0.0,
            "full_attn_mod": 1,
            "interpolate_factor": 1,
            "lm_head_bias": False,
            "max_position_embeddings": 131072,
            "mlp_bias": False,
            "original_max_position_embeddings": 4096,
            "pad_token_id": 3,
            "partial_rotary_factor": 0.75,
            "resid_pdrop": 0.0,
            "rope_scaling": {
                "long_factor": [1.5] * 24,
                "short_factor": [1.0] * 24,
                "type": "longrope",
            },
            "rope_theta": 10000.0,
            "sliding_window": 262144,
            "tie_word_embeddings": True,
        },
        (131072, 262144, 48, 1e4, "longrope"),
    ),
    "SmolLM2": (
        "LlamaForCausalLM",
        {
            "attention_bias": False,
            "is_llama_config": True,
            "max_position_embeddings": 8192,
            "pretraining_tp": 1,
            "rope_interleaved": False,
            "rope_scaling": None,
            "rope_theta": 100000,
            "tie_word_embeddings": True,
            "transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}},
        },
        (8192, 0, 64, 1e5, ""),
    ),
    "SmolLM3": (
        "SmolLM3ForCausalLM",
        {
            "attention_bias": False,
            "layer_types": ["full_attention"] * 4,
            "max_position_embeddings": 65536,
            "max_window_layers": 28,
            "mlp_bias": False,
            "no_rope_layer_interval": 4,
            "no_rope_layers": [1, 1, 1, 0],
            "pretraining_tp": 2,
            "rope_scaling": None,
            "rope_theta": 5000000.0,
            "sliding_window": None,
            "use_sliding_window": False,
        },
        (65536, 0, 64, 5e6, ""),
    ),
    "Qwen2.5, its card's YaRN": (
        "Qwen2ForCausalLM",
        {
            "max_position_embeddings": 32768,
            "max_window_layers": 28,
            "rope_scaling": {
                "factor": 4.0,
                "original_max_position_embeddings": 32768,
                "type": "yarn",
            },
            "rope_theta": 1000000.0,
            "sliding_window": 131072,
            "use_mrope": False,
            "use_sliding_window": False,
        },
        (32768, 0, 64, 1e6, "yarn"),
    ),
    "Yarn Llama": (
        "LlamaForCausalLM",
        {
            "max_position_embeddings": 65536,
            "rope_scaling": {
                "factor": 16.0,
                "original_max_position_embeddings": 4096,
                "type": "yarn",
                "finetuned": True,
            },
        },
        (65536, 0, 64, 1e4, "yarn"),
    ),
    "Ministral 3": (
        "Mistral3ForConditionalGeneration",
        {
            "model_type": "ministral3",
            "head_dim": 128,
            "max_position_embeddings": 262144,
            "rope_parameters": {
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "factor": 16.0,
                "llama_4_scaling_beta": 0.1,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "original_max_position_embeddings": 16384,
                "rope_theta": 1000000.0,
                "rope_type": "yarn",
                "type": "yarn",
            },
            "sliding_window": None,
        },
        (262144, 0, 128, 1e6, "yarn"),
    ),
    "OLMo 3": (
        "Olmo3ForCausalLM",
        {
            "model_type": "olmo3",
            "attention_bias": False,
            "layer_types": ["full_attention", *["sliding_attention"] * 3],
            "max_position_embeddings": 65536,
            "rope_scaling": {
                "attention_factor": 1.2079441541679836,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "factor": 8.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "yarn",
            },
            "rope_theta": 500000,
            "sliding_window": 4096,
        },
        (65536, 0, 64, 5e5, "yarn"),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_fields_are_all_known(name: str) -> None:
    architecture, own, expected = PUBLISHED[name]
    values = _COMMON | _SIZES | {"architectures": [architecture]} | own
    config = config_of(load_family(HF_ARCHITECTURES[architecture]), values)
    attention = config.spec.layers[0].attends
    rope = attention.rope
    assert rope
    kind = rope.scaling.kind if rope.scaling else ""
    found = (config.max_model_len, attention.window, rope.dim, rope.theta, kind)
    assert found == expected
