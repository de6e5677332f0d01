"""Gemma (Gemma Team 2024): a Llama with embeddings scaled and 1 added to the weights of norms."""

from backend.config.activations import read_activation
from backend.config.families.family import Family
from backend.config.families.gemma2 import gemma_biases, gemma_embedding_scale, gemma_norm
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Activation, Attention, DecoderSpec, Layer

# What GemmaConfig of transformers says of fields that a config.json lacks.
_DEFAULTS = {
    "vocab_size": 256000,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
}


def _spec(fields: Fields) -> DecoderSpec:
    has_qkv_bias, has_out_bias = gemma_biases(fields)
    attention = Attention(
        read_rope(fields, rotary_dim(fields, head_dim(fields))),
        qkv_bias=has_qkv_bias,
        out_bias=has_out_bias,
    )
    layer = Layer(attention, MLP(fields.integer("intermediate_size"), _activation(fields)))
    return DecoderSpec(
        (layer,) * num_layers(fields),
        gemma_norm(fields),
        embedding_scale=gemma_embedding_scale(fields),
    )


def _activation(fields: Fields) -> Activation:
    # transformers does not look at hidden_activation, which newer files have beside hidden_act, and
    # takes the approximation where these say gelu: the first were written so by mistake.
    fields.harmless(["hidden_activation"])
    activation = read_activation(fields, "hidden_act", "gelu_pytorch_tanh")
    return "gelu_tanh" if activation == "gelu" else activation


FAMILY = Family(
    name="gemma",
    huggingface=("GemmaForCausalLM",),
    gguf=("gemma",),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    defaults=_DEFAULTS,
    tie_word_embeddings=True,
    models="Gemma 2B, 7B, CodeGemma",
)
