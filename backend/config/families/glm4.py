"""GLM-4 (Zhipu 2024-25): pairs of half a head turn; from GLM-4-0414 on norms stand around parts."""

import msgspec

from backend.config.biases import has_qkv_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm, NormPlaces


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_gguf = fields.kind == "gguf"
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields), 0.5))
    attention = Attention(
        msgspec.structs.replace(rope, is_interleaved=True),  # directories have pairs as well
        qkv_bias=has_qkv_bias(fields),
    )
    mlp = MLP(fields.integer("intermediate_size", None if is_gguf else 13696))
    is_older = "GlmForCausalLM" in fields.raw("architectures", [])
    norms: NormPlaces = "before" if is_older else "around"
    eps = fields.number("rms_norm_eps", None if is_gguf else 1.5625e-7)
    return DecoderSpec((Layer(attention, mlp, norms=norms),) * num_layers(fields), Norm(eps))


_FUSED = ("mlp.gate_proj", "mlp.up_proj")

FAMILY = Family(
    name="glm4",
    huggingface=("GlmForCausalLM", "Glm4ForCausalLM"),
    gguf=("glm4",),
    spec=_spec,
    hf_names=hf_names(
        {
            "attention_output_norm": "post_self_attn_layernorm",
            "mlp_output_norm": "post_mlp_layernorm",
        },
        fused={"mlp.gate_up_proj": _FUSED},
    ),
    gguf_names=gguf_names({"mlp.gate_proj": (), "mlp.up_proj": ()}, fused={"ffn_up": _FUSED}),
    defaults={
        "hidden_size": 4096,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "attention_bias": True,
        "max_position_embeddings": 131072,
    },
    models="GLM-4-9B, GLM-4-0414, GLM-Z1",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
