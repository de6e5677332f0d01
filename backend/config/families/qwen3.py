"""Qwen3 (Yang et al. 2025): each query and key normalised by itself, no biases."""

from backend.config.biases import has_out_bias, has_qkv_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.families.qwen2 import GGUF_OF_IMAGES, OF_IMAGES, WINDOW_DEFAULTS, is_seeing
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm
from backend.config.windows import hf_layer_windows


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    theta = 5e5 if is_seeing(fields) else 1e4
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)), theta=theta, known=OF_IMAGES)
    if fields.kind == "gguf":
        fields.harmless(GGUF_OF_IMAGES)
    qkv_bias, out_bias = has_qkv_bias(fields), has_out_bias(fields)
    mlp = MLP(fields.integer("intermediate_size"))
    layers = tuple(
        Layer(
            Attention(rope, window=window, qkv_bias=qkv_bias, out_bias=out_bias, qk_norm="head"),
            mlp,
        )
        for window in hf_layer_windows(fields, num_layers(fields), has_switch=True)
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", 1e-6)))


FAMILY = Family(
    name="qwen3",
    huggingface=("Qwen3ForCausalLM", "Qwen3VLForConditionalGeneration"),
    gguf=("qwen3", "qwen3vl"),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    defaults=WINDOW_DEFAULTS | {"head_dim": 128},
    models="Qwen3 and Qwen3-VL (text), dense",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
