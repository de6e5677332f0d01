"""Mistral Small 3 and Ministral 3: a Llama, YaRN, queries scaled by position.

Both come inside models that see; they are served as text only.
"""

from typing import Any

from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rope_parameters, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm, QueryScaling
from backend.config.windows import hf_layer_windows

_BETA = "llama_4_scaling_beta"
# What transformers' Ministral3Config takes where a file has no parameters.
_ROPE: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    "original_max_position_embeddings": 16384,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    _BETA: 0.1,
}


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    scaling = _gguf_scaling(fields) if fields.kind == "gguf" else _hf_scaling(fields)
    windows = hf_layer_windows(fields, num_layers(fields))
    rope = read_rope(
        fields,
        rotary_dim(fields, head_dim(fields)),
        interleaved=True,
        known=frozenset({_BETA} if scaling else ()),
    )
    mlp = MLP(fields.integer("intermediate_size"))
    layers = tuple(
        Layer(Attention(rope, window=window, query_scaling=scaling), mlp) for window in windows
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", 1e-5)))


def _hf_scaling(fields: Fields) -> QueryScaling | None:
    if fields.text("model_type", "ministral3") != "ministral3":
        # Mistral Small 3's text model is a Mistral, the window's default included.
        fields.default("sliding_window", 4096)
        fields.default("rms_norm_eps", 1e-6)
        return None
    fields.default("head_dim", 128)
    if "rope_scaling" not in fields and "rope_parameters" not in fields:
        fields.add("rope_parameters", _ROPE)
    parameters = rope_parameters(fields)
    if parameters.get(_BETA) is None:
        return None
    original = int(parameters["original_max_position_embeddings"])
    return QueryScaling(float(parameters[_BETA]), original)


def _gguf_scaling(fields: Fields) -> QueryScaling | None:
    beta = fields.number("attention.temperature_scale", 0.0)
    context = fields.integer("max_position_embeddings", 0)
    original = fields.integer("rope.scaling.original_context_length", 0) or context
    return QueryScaling(beta, original) if beta else None


FAMILY = Family(
    name="mistral3",
    huggingface=("Mistral3ForConditionalGeneration", "Ministral3ForCausalLM"),
    gguf=("mistral3",),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    # Ministral3Config's is false; a head in the file counts whatever it says.
    tie_word_embeddings=True,
    models="Mistral Small 3.1, 3.2; Ministral 3",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
