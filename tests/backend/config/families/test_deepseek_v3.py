"""DeepSeek V3's fields, and those of GGUF files of deepseek2."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families import deepseek_v3
from backend.config.model_config import ModelConfig
from backend.config.spec import MLP, Experts, Latent
from tests.backend.config.families.family_config import config_of, decoder_of

# config.json of DeepSeek-V3 but for its number of layers.
PUBLISHED: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
    "aux_loss_alpha": 0.001,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "ep_size": 1,
    "first_k_dense_replace": 3,
    "hidden_act": "silu",
    "hidden_size": 7168,
    "initializer_range": 0.02,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v3",
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 5,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1,
    "pretraining_tp": 1,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "seq_aux": True,
    "tie_word_embeddings": False,
    "topk_group": 4,
    "topk_method": "noaux_tc",
    "use_cache": True,
    "v_head_dim": 128,
    "vocab_size": 129280,
}
# As llama.cpp's converter writes the same.
GGUF: dict[str, Any] = {
    "hidden_size": 7168,
    "num_hidden_layers": 5,
    "max_position_embeddings": 163840,
    "intermediate_size": 18432,
    "num_attention_heads": 128,
    "num_key_value_heads": 1,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "expert_group_count": 8,
    "expert_group_used_count": 4,
    "expert_gating_func": 2,
    "head_dim": 576,
    "attention.value_length": 512,
    "leading_dense_block_count": 3,
    "attention.q_lora_rank": 1536,
    "attention.kv_lora_rank": 512,
    "attention.key_length_mla": 192,
    "attention.value_length_mla": 128,
    "moe_intermediate_size": 2048,
    "expert_shared_count": 1,
    "expert_weights_scale": 2.5,
    "expert_weights_norm": True,
    "rope.dimension_count": 64,
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 40.0,
    "rope.scaling.original_context_length": 4096,
    "rope.scaling.yarn_beta_fast": 32.0,
    "rope.scaling.yarn_beta_slow": 1.0,
    "rope.scaling.yarn_log_multiplier": 0.1,
}
TENSORS = {"blk.0.attn_k_b.weight": (128, 512, 128), "blk.3.exp_probs_b.bias": (256,)}


def config(**changes: Any) -> ModelConfig:
    said = {name: v for name, v in (PUBLISHED | changes).items() if v is not None}
    return config_of(deepseek_v3.FAMILY, said)


def gguf_config(tensors: dict[str, tuple[int, ...]] = TENSORS, **changes: Any) -> ModelConfig:
    said = {name: v for name, v in (GGUF | changes).items() if v is not None}
    return config_of(deepseek_v3.FAMILY, said, "gguf", tensors)


def test_published_model_is_what_its_report_says() -> None:
    found = config()
    assert (found.num_kv_heads, found.head_dim) == (128, 192)
    layers = decoder_of(found).layers
    assert [isinstance(layer.mlp, MLP) for layer in layers] == [True] * 3 + [False] * 2
    attention, experts = layers[0].attends, layers[4].mlp
    assert attention.latent == Latent(512, 64, 128, 128, q_rank=1536)
    # 0.1 ln 40 + 1, squared, over the root of 192; cosines stay what they are.
    assert attention.scale == pytest.approx(1.3688879454113936**2 * 192**-0.5)
    assert attention.rope and attention.rope.attention_factor == 1.0
    assert experts == Experts(
        256,
        8,
        2048,
        router="sigmoid",
        weight_scale=2.5,
        has_correction=True,
        shared_width=2048,
        num_groups=8,
        top_groups=4,
    )


def test_gguf_file_is_the_same_model() -> None:
    ours, theirs = decoder_of(config()), decoder_of(gguf_config())
    latent = theirs.layers[0].attends.latent
    assert latent == Latent(512, 64, 128, 128, q_rank=1536, is_split=True)
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        assert one.mlp == other.mlp
        assert one.attends.scale == pytest.approx(other.attends.scale)
        assert one.attends.rope == other.attends.rope
    assert (gguf_config().num_kv_heads, gguf_config().head_dim) == (128, 192)


def test_older_gguf_file_has_heads_sizes_and_one_matrix() -> None:
    """From before llama.cpp kept compressed keys: sizes are those of heads."""
    older = gguf_config(
        {},
        head_dim=192,
        num_key_value_heads=128,
        expert_gating_func=None,
        **{
            "attention.value_length": 128,
            "attention.key_length_mla": None,
            "attention.value_length_mla": None,
        },
    )
    layer = decoder_of(older).layers[4]
    assert layer.attends.latent == Latent(512, 64, 128, 128, q_rank=1536)
    assert isinstance(layer.mlp, Experts)
    assert (layer.mlp.router, layer.mlp.has_correction) == ("softmax", False)


def test_layers_that_predict_further_tokens_are_not_counted() -> None:
    found = gguf_config(num_hidden_layers=6, nextn_predict_layers=1)
    assert len(decoder_of(found).layers) == 5


def test_queries_may_come_of_the_token_itself() -> None:
    """null says so; a config.json without the field has transformers' default."""
    values = PUBLISHED | {"q_lora_rank": None}
    latent = decoder_of(config_of(deepseek_v3.FAMILY, values)).layers[0].attends.latent
    assert latent and latent.q_rank == 0
    latent = decoder_of(config(q_lora_rank=None)).layers[0].attends.latent
    assert latent and latent.q_rank == 1536


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_group": 7}, "n_group is 7: 256 experts cannot be shared out over so many groups"),
        ({"n_group": 256}, "n_group is 256: 256 experts cannot be shared out"),
        ({"topk_group": 9}, "topk_group is 9: 8 experts are chosen from the best of 8 groups"),
        ({"num_experts_per_tok": 200}, "200 experts are chosen from the best of 8 groups of 32"),
        ({"scoring_func": "softmax"}, "scoring_func is 'softmax': only sigmoid"),
        ({"topk_method": "greedy"}, "topk_method is 'greedy': only noaux_tc"),
        ({"moe_layer_freq": 2}, "moe_layer_freq is 2"),
        ({"num_key_value_heads": 8}, "num_key_value_heads is 8: each of 128 heads has keys"),
        ({"qk_head_dim": 128}, "qk_head_dim is 128: heads have 192 numbers"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5: qk_rope_head_dim, 64,"),
        ({"kv_lora_rank": 0}, "kv_rank of compressed keys must be above 0"),
        ({"index_topk": 2048}, "index_topk is not known for deepseek_v3 models"),
    ],
)
def test_field_that_would_change_what_is_computed_is_refused(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        config(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"expert_gating_func": 4}, "expert_gating_func 4 is not supported; 1 and 2"),
        ({"expert_group_count": 3}, "expert_group_count is 3: 256 experts cannot be shared"),
        ({"attention.indexer.top_k": 2048}, "attention.indexer.top_k is not known"),
        ({"rope.dimension_count": 192}, "nope_dim of compressed keys must be above 0, is 0"),
    ],
)
def test_key_that_would_change_what_is_computed_is_refused(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        gguf_config(**changes)
