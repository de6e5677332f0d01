"""GLM-4.5's fields: which layers have experts, and what of heads turns."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families import glm4_moe
from backend.config.fields import FileKind
from backend.config.spec import DecoderSpec, Experts
from tests.backend.config.families.family_config import attention_of, config_of, decoder_of

# config.json of GLM-4.5-Air but for its number of layers.
PUBLISHED: dict[str, Any] = {
    "architectures": ["Glm4MoeForCausalLM"],
    "attention_bias": True,
    "first_k_dense_replace": 1,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 10944,
    "max_position_embeddings": 131072,
    "moe_intermediate_size": 1408,
    "n_group": 1,
    "n_routed_experts": 128,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 96,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 3,
    "num_key_value_heads": 8,
    "num_nextn_predict_layers": 1,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "routed_scaling_factor": 1.0,
    "topk_group": 1,
    "use_qk_norm": False,
}
GGUF: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 10944,
    "num_hidden_layers": 4,
    "nextn_predict_layers": 1,
    "max_position_embeddings": 131072,
    "num_attention_heads": 96,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rope.dimension_count": 64,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-5,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 1408,
    "expert_shared_count": 1,
    "leading_dense_block_count": 1,
    "expert_weights_scale": 1.0,
    "expert_weights_norm": True,
}
TENSORS = {"blk.0.attn_q.bias": (12288,), "blk.1.exp_probs_b.bias": (128,)}
EXPERTS = Experts(128, 8, 1408, router="sigmoid", has_correction=True, shared_width=1408)


def spec(kind: FileKind = "huggingface", **changes: Any) -> DecoderSpec:
    values = (GGUF if kind == "gguf" else PUBLISHED) | changes
    tensors = TENSORS if kind == "gguf" else {}
    return decoder_of(config_of(glm4_moe.FAMILY, values, kind, tensors))


@pytest.mark.parametrize("kind", ["huggingface", "gguf"])
def test_directory_and_gguf_file_are_the_same_model(kind: FileKind) -> None:
    """A GGUF file has the layer behind the others in its count, and no router's kind."""
    found = spec(kind)
    assert [layer.mlp == EXPERTS for layer in found.layers] == [False, True, True]
    attention = attention_of(found.layers[0])
    assert (attention.qkv_bias, attention.out_bias, attention.qk_norm) == (True, False, "none")
    assert attention.rope and (attention.rope.dim, attention.rope.theta) == (64, 1e6)


def test_half_of_each_head_turns_where_the_file_does_not_say() -> None:
    attention = attention_of(spec(partial_rotary_factor=None, use_qk_norm=True).layers[0])
    assert attention.rope and attention.rope.dim == 64
    assert attention.qk_norm == "head"


def test_field_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ModelError, match="index_topk is not known for glm4_moe models"):
        spec(index_topk=2048)
    with pytest.raises(ModelError, match=r"rope\.dimension_sections is not known"):
        spec("gguf", **{"rope.dimension_sections": [8, 12, 12, 0]})
