"""GLM-4.5 to 4.7 (Zeng et al. 2025): half of each head turns, DeepSeek V3's router."""

from backend.config.biases import has_qkv_bias
from backend.config.families.family import Family
from backend.config.families.names import FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.latent_fields import (
    GGUF_ROUTER_PARTS,
    ROUTER_PARTS,
    read_gguf_experts,
    read_routed_experts,
)
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_gguf = fields.kind == "gguf"
    has_norms = "blk.0.attn_q_norm.weight" in fields.tensors if is_gguf else _has_norms(fields)
    attention = Attention(
        read_rope(fields, rotary_dim(fields, head_dim(fields), 0.5)),
        qkv_bias=has_qkv_bias(fields),
        qk_norm="head" if has_norms else "none",
    )
    # Layers that predict further tokens stand behind the others, and are left out.
    further = fields.integer("nextn_predict_layers", 0)
    fields.harmless(["num_nextn_predict_layers", "num_mtp_layers"])
    experts = (
        read_gguf_experts(fields, default="sigmoid")
        if is_gguf
        else read_routed_experts(fields, 1408)
    )
    dense = fields.integer("leading_dense_block_count" if is_gguf else "first_k_dense_replace", 1)
    mlp = MLP(fields.integer("intermediate_size", None if is_gguf else 10944))
    layers = tuple(
        Layer(attention, experts if index >= dense else mlp)
        for index in range(num_layers(fields) - further)
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-5)))


def _has_norms(fields: Fields) -> bool:
    return fields.flag("use_qk_norm")


FAMILY = Family(
    name="glm4_moe",
    huggingface=("Glm4MoeForCausalLM",),
    gguf=("glm4moe",),
    spec=_spec,
    # Behind 46 and 92 layers stands one that predicts a further token.
    hf_names=hf_names(ROUTER_PARTS, fused=FUSED_EXPERTS, ignored=r"model\.layers\.(46|92)\..*"),
    gguf_names=gguf_names(
        {"post_attention_layernorm": "post_attention_norm", **GGUF_ROUTER_PARTS},
        ignored=r"blk\.(46|92)\..*",
    ),
    aliases={"n_routed_experts": "num_experts"},
    defaults={"max_position_embeddings": 131072},
    own_fields=frozenset({"expert_group_count"}),
    models="GLM-4.5, 4.6, 4.7 and Air",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
