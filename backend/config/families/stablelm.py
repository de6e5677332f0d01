"""StableLM 2 and 3B-4E1T (Stability AI 2023-24): LayerNorm, a quarter of each head turns."""

from backend.config.biases import has_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm, NormPlaces


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    fields.must_be(
        "qk_layernorm",
        False,
        "a norm for each head lies in so many tensors, which are not read; a GGUF file has one",
    )
    is_gguf = fields.kind == "gguf"
    has_norms = "blk.0.attn_q_norm.weight" in fields.tensors
    # llama.cpp goes by the tensors.
    are_parallel = fields.flag("use_parallel_residual") and not (
        is_gguf and "blk.0.ffn_norm.weight" in fields.tensors
    )
    attention = Attention(
        read_rope(fields, rotary_dim(fields, head_dim(fields), 0.25)),
        qkv_bias=has_bias(fields, "use_qkv_bias", "attn_q", "attn_qkv"),
        qk_norm="each" if is_gguf and has_norms else "none",
    )
    norms: NormPlaces = "parallel" if are_parallel else "before"
    layer = Layer(attention, MLP(fields.integer("intermediate_size")), norms=norms)
    eps = fields.number("layer_norm_eps", None if is_gguf else 1e-5)
    return DecoderSpec((layer,) * num_layers(fields), Norm(eps, "layer", has_bias=True))


FAMILY = Family(
    name="stablelm",
    huggingface=("StableLmForCausalLM",),
    gguf=("stablelm",),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    defaults={"max_position_embeddings": 4096},
    models="StableLM 3B, StableLM 2 1.6B; as GGUF files StableLM 2 12B",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
