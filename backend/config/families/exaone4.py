"""EXAONE 4 (LG AI Research 2025): norms behind attention and MLP; windows, which alone turn."""

from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm
from backend.config.windows import layer_windows, window_pattern

# llama.cpp reads windows of the 32B model, which it knows by its layers.
_LARGE = 64


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_gguf = fields.kind == "gguf"
    windows = _gguf_windows(fields) if is_gguf else _windows(fields)
    # Of models with windows the layers that see all tokens do not tell positions.
    has_windows = num_layers(fields) == _LARGE if is_gguf else _is_set(fields)
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)))
    mlp = MLP(fields.integer("intermediate_size", None if is_gguf else 16384))
    layers = tuple(
        Layer(
            Attention(rope if window or not has_windows else None, window=window, qk_norm="head"),
            mlp,
            norms="after",
        )
        for window in windows
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-5)))


def _windows(fields: Fields) -> list[int]:
    if "layer_types" in fields:
        fields.harmless(["sliding_window_pattern"])  # the same by another name, "LLLG"
        return layer_windows(fields, num_layers(fields))
    return layer_windows(fields, num_layers(fields), fields.integer("sliding_window_pattern", 4))


def _is_set(fields: Fields) -> bool:
    return fields.raw("sliding_window") is not None


def _gguf_windows(fields: Fields) -> list[int]:
    count = num_layers(fields)
    if count != _LARGE:
        fields.harmless(["sliding_window", "sliding_window_pattern"])
        return [0] * count
    return layer_windows(fields, count, window_pattern(fields, count, 4), default=4096)


FAMILY = Family(
    name="exaone4",
    huggingface=("Exaone4ForCausalLM",),
    gguf=("exaone4",),
    spec=_spec,
    hf_names=hf_names(
        {
            "attention_output_norm": "post_attention_layernorm",
            "mlp_output_norm": "post_feedforward_layernorm",
        }
    ),
    gguf_names=gguf_names(),
    defaults={"sliding_window": 4096},
    models="EXAONE 4.0 1.2B, 32B",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
