"""OLMo (Groeneveld et al. 2024): a Llama whose norms have no weights."""

from backend.config.biases import has_out_bias, has_qkv_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm

_CLIPPED = "queries, keys and values that are clipped are not known"


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    fields.must_be("clip_qkv", None, _CLIPPED)
    fields.must_be("attention.clamp_kqv", 0.0, _CLIPPED)
    attention = Attention(
        read_rope(fields, rotary_dim(fields, head_dim(fields)), interleaved=True),
        qkv_bias=has_qkv_bias(fields),
        out_bias=has_out_bias(fields),
    )
    layer = Layer(attention, MLP(fields.integer("intermediate_size")))
    # transformers has this number in its code.
    eps = fields.number("layer_norm_eps") if fields.kind == "gguf" else 1e-5
    return DecoderSpec((layer,) * num_layers(fields), Norm(eps, "layer", has_weight=False))


FAMILY = Family(
    name="olmo",
    huggingface=("OlmoForCausalLM",),
    gguf=("olmo",),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    models="OLMo 1B and 7B, 2024",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
