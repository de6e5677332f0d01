"""Jais 2 (Inception 2025): a Llama of LayerNorm, biases and the square of ReLU."""

from backend.config.activations import read_activation
from backend.config.biases import has_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    is_gguf = fields.kind == "gguf"
    layer = Layer(
        Attention(
            read_rope(fields, rotary_dim(fields, head_dim(fields))),
            qkv_bias=has_bias(fields, "attention_bias", "attn_q", "attn_qkv"),
            out_bias=has_bias(fields, "attention_bias", "attn_output"),
        ),
        MLP(
            fields.integer("intermediate_size"),
            "relu2" if is_gguf else read_activation(fields, "hidden_act", "relu2"),
            is_gated=False,
            has_bias=has_bias(fields, "mlp_bias", "ffn_up"),
        ),
    )
    eps = fields.number("layer_norm_eps", None if is_gguf else 1e-5)
    return DecoderSpec((layer,) * num_layers(fields), Norm(eps, "layer", has_bias=True))


FAMILY = Family(
    name="jais2",
    huggingface=("Jais2ForCausalLM",),
    gguf=("jais2",),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    # What Jais2Config of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 150272,
        "hidden_size": 3328,
        "intermediate_size": 26624,
        "num_hidden_layers": 32,
        "num_attention_heads": 26,
        "max_position_embeddings": 8192,
        "attention_bias": True,
        "mlp_bias": True,
    },
    models="Jais 2 8B, 70B",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
