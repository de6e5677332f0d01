"""GLM-4.7-Flash's fields: which layers have experts."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families import glm4_moe_lite
from backend.config.spec import DecoderSpec, Experts, Latent
from tests.backend.config.families.family_config import config_of, decoder_of

# config.json of GLM-4.7-Flash but for its number of layers.
PUBLISHED: dict[str, Any] = {
    "architectures": ["Glm4MoeLiteForCausalLM"],
    "attention_bias": False,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 10240,
    "kv_lora_rank": 512,
    "max_position_embeddings": 202752,
    "moe_intermediate_size": 1536,
    "n_group": 1,
    "n_routed_experts": 64,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 20,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 20,
    "num_nextn_predict_layers": 1,
    "partial_rotary_factor": 1.0,
    "q_lora_rank": 768,
    "qk_nope_head_dim": 192,
    "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "routed_scaling_factor": 1.8,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "v_head_dim": 256,
}


def spec(**changes: Any) -> DecoderSpec:
    return decoder_of(config_of(glm4_moe_lite.FAMILY, PUBLISHED | changes))


def test_first_layer_is_dense_unless_the_file_says_more() -> None:
    assert [isinstance(layer.mlp, Experts) for layer in spec().layers] == [False] + [True] * 3
    types = ["dense", "dense", "sparse", "sparse"]
    found = spec(mlp_layer_types=types, first_k_dense_replace=2).layers
    assert [isinstance(layer.mlp, Experts) for layer in found] == [False] * 2 + [True] * 2


def test_norms_inside_of_attention_have_an_eps_of_their_own() -> None:
    found = spec()
    assert found.norm.eps == 1e-5
    assert found.layers[0].attends.latent == Latent(512, 64, 192, 256, q_rank=768, norm_eps=1e-6)
    assert found.layers[0].attends.scale == 256**-0.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mlp_layer_types": ["dense"]}, "mlp_layer_types is no list of 4"),
        ({"mlp_layer_types": ["dense", "moe"] * 2}, "each dense or sparse"),
        (
            {"first_k_dense_replace": 2},
            "first_k_dense_replace is 2: mlp_layer_types says dense of 1",
        ),
    ],
)
def test_layers_that_contradict_each_other_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        spec(**changes)
