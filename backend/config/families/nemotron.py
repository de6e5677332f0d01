"""Nemotron 4, Minitron (NVIDIA 2024): LayerNorm around 1, the square of ReLU, half a head turns."""

from backend.config.activations import read_activation
from backend.config.biases import has_bias, has_out_bias, has_qkv_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    is_gguf = fields.kind == "gguf"
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields), 1.0 if is_gguf else 0.5))
    layer = Layer(
        Attention(rope, qkv_bias=has_qkv_bias(fields), out_bias=has_out_bias(fields)),
        MLP(
            fields.integer("intermediate_size"),
            "relu2" if is_gguf else read_activation(fields, "hidden_act", "relu2"),
            is_gated=False,
            has_bias=has_bias(fields, "mlp_bias", "ffn_up"),
        ),
    )
    eps = fields.number("layer_norm_eps", None if is_gguf else 1e-5)
    # Norms of GGUF files have the 1 in them.
    norm = Norm(eps, "layer", offset=0.0 if is_gguf else 1.0, has_bias=True)
    return DecoderSpec((layer,) * num_layers(fields), norm)


FAMILY = Family(
    name="nemotron",
    huggingface=("NemotronForCausalLM",),
    gguf=("nemotron",),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    aliases={"norm_eps": "layer_norm_eps"},
    # What NemotronConfig of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 256000,
        "hidden_size": 6144,
        "intermediate_size": 24576,
        "num_hidden_layers": 32,
        "num_attention_heads": 48,
        "max_position_embeddings": 4096,
    },
    models="Nemotron 4, Minitron 4B and 8B",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
