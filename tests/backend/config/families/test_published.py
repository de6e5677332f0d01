"""Fields of published config.json files: old ones, odd ones, and what they come to."""

from typing import Any

import pytest

from backend.config.architectures import HF_ARCHITECTURES, load_family
from tests.backend.config.families.family_config import config_of

# A field of _COMMON or _SIZES that a file does not have.
ABSENT: Any = object()
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
    "Pythia 160M": (
        "GPTNeoXForCausalLM",
        {
            "hidden_act": "gelu",
            "intermediate_size": 1024,
            "layer_norm_eps": 1e-05,
            "max_position_embeddings": 2048,
            "rotary_emb_base": 10000,
            "rotary_pct": 0.25,
            "tie_word_embeddings": False,
            "use_parallel_residual": True,
            "num_key_value_heads": ABSENT,
            "rms_norm_eps": ABSENT,
        },
        (2048, 0, 16, 1e4, ""),
    ),
    "Phi-2": (
        "PhiForCausalLM",
        {
            "embd_pdrop": 0.0,
            "hidden_act": "gelu_new",
            "layer_norm_eps": 1e-05,
            "max_position_embeddings": 2048,
            "partial_rotary_factor": 0.5,
            "qk_layernorm": False,
            "resid_pdrop": 0.1,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "rms_norm_eps": ABSENT,
        },
        (2048, 0, 32, 1e4, ""),
    ),
    "Command R": (
        "CohereForCausalLM",
        {
            "attention_bias": False,
            "layer_norm_eps": 1e-05,
            "logit_scale": 0.0625,
            "max_position_embeddings": 8192,
            "model_max_length": 131072,
            "pad_token_id": 0,
            "rope_theta": 8000000.0,
            "use_qk_norm": False,
            "rms_norm_eps": ABSENT,
        },
        (8192, 0, 64, 8e6, ""),
    ),
    "Command R7B": (
        "Cohere2ForCausalLM",
        {
            "attention_bias": False,
            "cache_implementation": "hybrid",
            "head_dim": 128,
            "layer_norm_eps": 1e-05,
            "layer_switch": 4,
            "logit_scale": 0.25,
            "max_position_embeddings": 8192,
            "order_of_interleaved_layers": "local_attn_first",
            "pad_token_id": 0,
            "position_embedding_type": "rope_gptj",
            "rope_scaling": None,
            "rope_theta": 50000,
            "rotary_pct": 1.0,
            "sliding_window": 4096,
            "sliding_window_pattern": 4,
            "use_embedding_sharing": True,
            "use_gated_activation": True,
            "use_parallel_block": True,
            "use_parallel_embedding": True,
            "rms_norm_eps": ABSENT,
        },
        (8192, 4096, 128, 5e4, ""),
    ),
    "Falcon 7B": (
        "FalconForCausalLM",
        {
            "alibi": False,
            "apply_residual_connection_post_layernorm": False,
            "auto_map": {"AutoConfig": "configuration_falcon.FalconConfig"},
            "bias": False,
            "hidden_dropout": 0.0,
            "layer_norm_epsilon": 1e-05,
            "multi_query": True,
            "new_decoder_architecture": False,
            "parallel_attn": True,
            "hidden_act": ABSENT,
            "num_key_value_heads": ABSENT,
            "intermediate_size": ABSENT,
            "rms_norm_eps": ABSENT,
        },
        (2048, 0, 64, 1e4, ""),
    ),
    "GPT-J": (
        "GPTJForCausalLM",
        {
            "activation_function": "gelu_new",
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "gradient_checkpointing": False,
            "layer_norm_epsilon": 1e-05,
            "n_embd": 256,
            "n_head": 4,
            "n_inner": None,
            "n_layer": 4,
            "n_positions": 2048,
            "resid_pdrop": 0.0,
            "rotary": True,
            "rotary_dim": 64,
            "scale_attn_weights": True,
            "summary_activation": None,
            "summary_first_dropout": 0.1,
            "summary_proj_to_labels": True,
            "summary_type": "cls_index",
            "summary_use_proj": True,
            "task_specific_params": {},
            "tie_word_embeddings": False,
            "tokenizer_class": "GPT2Tokenizer",
            "hidden_act": ABSENT,
            "hidden_size": ABSENT,
            "intermediate_size": ABSENT,
            "num_key_value_heads": ABSENT,
            "num_hidden_layers": ABSENT,
            "num_attention_heads": ABSENT,
            "rms_norm_eps": ABSENT,
        },
        (2048, 0, 64, 1e4, ""),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_fields_are_all_known(name: str) -> None:
    architecture, own, expected = PUBLISHED[name]
    values = _COMMON | _SIZES | {"architectures": [architecture]} | own
    values = {name: value for name, value in values.items() if value is not ABSENT}
    config = config_of(load_family(HF_ARCHITECTURES[architecture]), values)
    attention = config.spec.layers[0].attends
    rope = attention.rope
    assert rope
    kind = rope.scaling.kind if rope.scaling else ""
    found = (config.max_model_len, attention.window, rope.dim, rope.theta, kind)
    assert found == expected
