"""Command-R and Aya (Cohere 2024): attention and MLP side by side from one norm, logits scaled."""

import msgspec

from backend.config.biases import has_out_bias, has_qkv_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope import Rope
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm

# What CohereConfig and Cohere2Config of transformers say of fields that a config.json lacks.
DEFAULTS = {
    "vocab_size": 256000,
    "hidden_size": 8192,
    "intermediate_size": 22528,
    "num_hidden_layers": 40,
    "num_attention_heads": 64,
    "max_position_embeddings": 8192,
}


def _spec(fields: Fields) -> DecoderSpec:
    is_gguf = fields.kind == "gguf"
    has_norm = (
        "blk.0.attn_q_norm.weight" in fields.tensors
        if is_gguf
        else fields.flag("use_qk_norm", False)
    )
    attention = Attention(
        cohere_rope(fields, 10000.0 if is_gguf else 500000.0),
        qkv_bias=has_qkv_bias(fields),
        out_bias=has_out_bias(fields),
        qk_norm="each" if has_norm else "none",
    )
    return cohere_spec(fields, [attention] * num_layers(fields))


def cohere_spec(fields: Fields, attentions: list[Attention]) -> DecoderSpec:
    """Return the spec of layers that attend so."""
    fields.one_of("hidden_act", ["silu"], "silu")
    mlp = MLP(fields.integer("intermediate_size"))
    layers = tuple(Layer(attention, mlp, norms="parallel") for attention in attentions)
    is_gguf = fields.kind == "gguf"
    norm = Norm(fields.number("layer_norm_eps", None if is_gguf else 1e-5), "layer")
    # llama.cpp has one key for what multiplies logits here and what they are divided by elsewhere,
    # and takes 0 for none.
    scale = (
        fields.number("logits_scaling", 0.0) if is_gguf else fields.number("logit_scale", 0.0625)
    )
    return DecoderSpec(layers, norm, logit_scale=(scale or 1.0) if is_gguf else scale)


def cohere_rope(fields: Fields, theta: float) -> Rope:
    """Return how heads turn, pair by pair in either kind of file."""
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)), theta=theta)
    return msgspec.structs.replace(rope, is_interleaved=True)


FAMILY = Family(
    name="cohere",
    huggingface=("CohereForCausalLM",),
    gguf=("command-r",),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    defaults=DEFAULTS,
    tie_word_embeddings=True,
    models="Command R, Command R+, Aya 23, Aya Expanse",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
