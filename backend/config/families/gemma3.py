"""Gemma 3 (Gemma Team 2025): Gemma 2 without soft caps on scores, with normalised queries and keys.

Five of six layers have a window, and frequencies of their own.
"""

from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.families.gemma2 import (
    GEMMA_PARTS,
    gemma_activation,
    gemma_biases,
    gemma_embedding_scale,
    gemma_norm,
    gemma_scale,
)
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope import Rope
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer
from backend.config.windows import FULL, SLIDING, layer_windows, window_pattern

# What Gemma3TextConfig of transformers says of fields that a config.json lacks.
GEMMA3_DEFAULTS = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}
_THETA = 1000000.0
_LOCAL_THETA = 10000.0
# The 27B's layers; llama.cpp knows it by them, for its queries are scaled in another way.
_LAYERS_OF_27B = 62
_WHOLE_MODEL = "Gemma3ForConditionalGeneration"


def _spec(fields: Fields) -> DecoderSpec:
    return gemma3_spec(fields)


def gemma3_spec(fields: Fields, *, sees_ahead: bool = False) -> DecoderSpec:
    """Return the spec. sees_ahead: of a model that embeds, whose window is half as wide, and looks
    both ways."""
    count, ropes = num_layers(fields), _ropes(fields)
    if fields.kind == "huggingface":
        _check(fields)
    has_qkv_bias, has_out_bias = gemma_biases(fields, may_see_ahead=sees_ahead)
    mlp = MLP(fields.integer("intermediate_size"), gemma_activation(fields))
    layers = tuple(
        Layer(
            Attention(
                ropes[SLIDING if window else FULL],
                scale=gemma_scale(fields, _LAYERS_OF_27B),
                window=window // 2 + 1 if sees_ahead and window else window,
                qkv_bias=has_qkv_bias,
                out_bias=has_out_bias,
                qk_norm="head",
            ),
            mlp,
            norms="around",
        )
        for window in layer_windows(fields, count, window_pattern(fields, count, 6))
    )
    return DecoderSpec(
        layers,
        gemma_norm(fields),
        embedding_scale=gemma_embedding_scale(fields),
        logit_softcap=fields.number("final_logit_softcapping", 0.0),
        sees_ahead=sees_ahead,
    )


def _ropes(fields: Fields) -> dict[str, Rope]:
    """Return how each type of layer turns. Only those that see all tokens may be stretched."""
    dim, theta = head_dim(fields), {FULL: _THETA, SLIDING: _LOCAL_THETA}
    if fields.kind == "gguf":
        local = Rope(rotary_dim(fields, dim), fields.number("rope.freq_base_swa", theta[SLIDING]))
        return {FULL: read_rope(fields, local.dim), SLIDING: local}
    theta = {
        FULL: fields.number("rope_theta", _THETA),
        SLIDING: fields.number("rope_local_base_freq", _LOCAL_THETA),
    }
    parameters = fields.raw("rope_parameters", {})
    if not isinstance(parameters, dict) or parameters.keys() - theta.keys():
        raise ModelError(f"rope_parameters must have {FULL} and {SLIDING}, no other field")
    scaling = fields.raw("rope_scaling", {})
    if not isinstance(scaling, dict):
        raise ModelError(f"rope_scaling is {scaling!r}, not an object")
    older = {FULL: scaling, SLIDING: {}}
    length = fields.raw("max_position_embeddings")
    ropes = {}
    for kind in theta:
        own = {"rope_theta": theta[kind]} | (parameters.get(kind) or {}) | older[kind]
        of_kind = {"rope_parameters": own, "max_position_embeddings": length}
        found = Fields("huggingface", of_kind, {})
        ropes[kind] = read_rope(found, rotary_dim(found, dim))
    return ropes


def _check(fields: Fields) -> None:
    """Refuse what transformers reads and does not do."""
    ignored = "transformers reads it and leaves it out, so it is not known what is meant"
    fields.must_be("attn_logit_softcapping", None, ignored)
    if _WHOLE_MODEL in fields.raw("architectures", []):
        fields.must_be("final_logit_softcapping", None, ignored)
    if "layer_types" not in fields:
        fields.must_be("_sliding_window_pattern", 6, "give layer_types instead")


FAMILY = Family(
    name="gemma3",
    huggingface=("Gemma3ForCausalLM", _WHOLE_MODEL),
    gguf=("gemma3",),
    spec=_spec,
    hf_names=hf_names(GEMMA_PARTS),
    gguf_names=gguf_names(),
    defaults=GEMMA3_DEFAULTS,
    harmless=frozenset({"cache_implementation", "_sliding_window_pattern"}),
    tie_word_embeddings=True,
    models="Gemma 3 (text)",
    checked="Gemma 3 270M Q4_K_M served, perplexity beside llama.cpp",
)
