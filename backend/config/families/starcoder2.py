"""StarCoder2 (Lozhkov et al. 2024): LayerNorm, biases, an MLP that is not gated, windows."""

from backend.config.activations import read_activation
from backend.config.biases import has_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm
from backend.config.windows import hf_layer_windows


def _spec(fields: Fields) -> DecoderSpec:
    is_gguf = fields.kind == "gguf"
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)))
    mlp = MLP(
        fields.integer("intermediate_size"),
        "gelu_tanh" if is_gguf else read_activation(fields, "hidden_act", "gelu_pytorch_tanh"),
        is_gated=False,
        has_bias=has_bias(fields, "use_bias", "ffn_up"),
    )
    qkv_bias = has_bias(fields, "use_bias", "attn_q", "attn_qkv")
    out_bias = has_bias(fields, "use_bias", "attn_output")
    # One window for all layers, if there is one. llama.cpp reads none.
    layers = tuple(
        Layer(Attention(rope, window=window, qkv_bias=qkv_bias, out_bias=out_bias), mlp)
        for window in hf_layer_windows(fields, num_layers(fields))
    )
    eps = fields.number("layer_norm_eps", None if is_gguf else 1e-5)
    return DecoderSpec(layers, Norm(eps, "layer", has_bias=True))


FAMILY = Family(
    name="starcoder2",
    huggingface=("Starcoder2ForCausalLM",),
    gguf=("starcoder2",),
    spec=_spec,
    hf_names=hf_names({"mlp.up_proj": "mlp.c_fc", "mlp.down_proj": "mlp.c_proj"}),
    gguf_names=gguf_names(),
    aliases={"norm_epsilon": "layer_norm_eps"},
    defaults={
        "use_bias": True,
        "hidden_size": 3072,
        "intermediate_size": 12288,
        "num_hidden_layers": 30,
        "num_attention_heads": 24,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
    },
    harmless=frozenset({"residual_dropout", "embedding_dropout", "norm_type", "mlp_type"}),
    tie_word_embeddings=True,
    models="StarCoder2 3B, 7B, 15B",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
