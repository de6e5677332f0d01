"""Seed-OSS (ByteDance 2025): a Llama with biases of queries, keys and values."""

from backend.config.biases import has_bias, has_qkv_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    attention = Attention(
        read_rope(fields, rotary_dim(fields, head_dim(fields))),
        qkv_bias=has_qkv_bias(fields),
        out_bias=has_bias(fields, "attention_out_bias", "attn_output"),
    )
    mlp = MLP(fields.integer("intermediate_size"), has_bias=has_bias(fields, "mlp_bias"))
    is_gguf = fields.kind == "gguf"
    norm = Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-6))
    return DecoderSpec((Layer(attention, mlp),) * num_layers(fields), norm)


FAMILY = Family(
    name="seed_oss",
    huggingface=("SeedOssForCausalLM",),
    gguf=("seed_oss",),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names({"post_attention_layernorm": "post_attention_norm"}),
    defaults={"attention_bias": True, "head_dim": 128, "max_position_embeddings": 524288},
    harmless=frozenset({"residual_dropout"}),
    models="Seed-OSS 36B",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
