"""Code World Model (Meta 2025): a Llama of which three layers of four have a window."""

from typing import Any

from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm
from backend.config.windows import layer_windows

_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 1e6,
    "factor": 16.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
}


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    count = num_layers(fields)
    if "rope_scaling" not in fields:
        fields.default("rope_parameters", _ROPE)
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)), theta=1e6)
    # The first of every four layers sees all tokens.
    windowed = [bool(index % 4) for index in range(count)]
    mlp = MLP(fields.integer("intermediate_size"), has_bias=fields.flag("mlp_bias"))
    layers = tuple(
        Layer(Attention(rope, window=window), mlp)
        for window in layer_windows(fields, count, windowed)
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", 1e-5)))


_DEFAULTS: dict[str, Any] = {
    "head_dim": 128,
    "sliding_window": 8192,
    "max_position_embeddings": 131072,
}

FAMILY = Family(
    name="cwm",
    huggingface=("CwmForCausalLM",),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    defaults=_DEFAULTS,
    models="CWM 32B",
)
