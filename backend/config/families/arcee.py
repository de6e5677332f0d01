"""Arcee's AFM (2025): a Llama whose MLP is not gated, with the square of relu."""

from backend.config.biases import has_bias, has_out_bias, has_qkv_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["relu2"], "relu2")
    attention = Attention(
        read_rope(fields, rotary_dim(fields, head_dim(fields)), interleaved=True),
        qkv_bias=has_qkv_bias(fields),
        out_bias=has_out_bias(fields),
    )
    mlp = MLP(
        fields.integer("intermediate_size"),
        "relu2",
        is_gated=False,
        has_bias=has_bias(fields, "mlp_bias", "ffn_up"),
    )
    norm = Norm(fields.number("rms_norm_eps", None if fields.kind == "gguf" else 1e-5))
    return DecoderSpec((Layer(attention, mlp),) * num_layers(fields), norm)


FAMILY = Family(
    name="arcee",
    huggingface=("ArceeForCausalLM",),
    gguf=("arcee",),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    defaults={"max_position_embeddings": 4096},
    models="AFM-4.5B",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
