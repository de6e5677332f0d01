"""OLMo 2 and 3 (OLMo team 2024, 2025): norms behind attention and MLP; OLMo 3 has windows."""

from backend.config.biases import has_out_bias, has_qkv_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope import Rope
from backend.config.rope_fields import is_by_layer_type, read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm
from backend.config.windows import FULL, SLIDING, layer_windows, window_pattern

_NAMES: dict[str, str | tuple[str, ...]] = {
    "attention_output_norm": "post_attention_layernorm",
    "mlp_output_norm": "post_feedforward_layernorm",
}


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_olmo3 = fields.text("model_type", "") == "olmo3"
    if is_olmo3:
        fields.default("sliding_window", 4096)
    windows = [0] * num_layers(fields)
    if is_olmo3 or fields.kind == "gguf":
        pattern = window_pattern(fields, num_layers(fields), 4) if fields.kind == "gguf" else 4
        windows = layer_windows(fields, num_layers(fields), pattern)
    theta = 5e5 if is_olmo3 else 1e4
    full = _rope(fields, FULL, theta)
    sliding = _windowed_rope(fields, full, theta) if any(windows) else full
    qkv_bias, out_bias = has_qkv_bias(fields), has_out_bias(fields)
    mlp = MLP(fields.integer("intermediate_size"))
    layers = tuple(
        Layer(
            Attention(
                sliding if window else full,
                window=window,
                qkv_bias=qkv_bias,
                out_bias=out_bias,
                qk_norm="all",
            ),
            mlp,
            norms="after",
        )
        for window in windows
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", 1e-5)))


def _rope(fields: Fields, layer_type: str, theta: float) -> Rope:
    return read_rope(fields, rotary_dim(fields, head_dim(fields)), layer_type, theta=theta)


def _windowed_rope(fields: Fields, full: Rope, theta: float) -> Rope:
    """Return how layers with a window turn: not stretched, unless the file says by which."""
    if fields.kind == "gguf":
        return Rope(full.dim, fields.number("rope.freq_base_swa", full.theta))
    if is_by_layer_type(fields):
        return _rope(fields, SLIDING, theta)
    return Rope(full.dim, full.theta)


FAMILY = Family(
    name="olmo2",
    huggingface=("Olmo2ForCausalLM", "Olmo3ForCausalLM"),
    gguf=("olmo2",),
    spec=_spec,
    hf_names=hf_names(_NAMES),
    gguf_names=gguf_names(),
    models="OLMo 2; OLMo 3",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
