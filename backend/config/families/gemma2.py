"""Gemma 2 (Gemma Team 2024): norms around, soft caps, a window in every other layer."""

from backend.config.activations import read_activation
from backend.config.biases import has_out_bias, has_qkv_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Activation, Attention, DecoderSpec, Layer, Norm
from backend.config.windows import layer_windows, window_pattern

# "the norm behind the attention" is the one before the MLP in other families.
GEMMA_PARTS: dict[str, str | tuple[str, ...]] = {
    "attention_output_norm": "post_attention_layernorm",
    "post_attention_layernorm": "pre_feedforward_layernorm",
    "mlp_output_norm": "post_feedforward_layernorm",
}
# What Gemma2Config of transformers says of fields that a config.json lacks.
GEMMA2_DEFAULTS = {
    "vocab_size": 256000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}
# The 27B's layers; llama.cpp knows it by them, for its queries are scaled in another way.
_LAYERS_OF_27B = 46


def _spec(fields: Fields) -> DecoderSpec:
    is_gguf = fields.kind == "gguf"
    count = num_layers(fields)
    pattern = window_pattern(fields, count, 2) if is_gguf else 2
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)))
    if is_gguf:
        fields.must_be("rope.freq_base_swa", rope.theta, "all layers of this family turn alike")
    attention_cap, logit_cap = (
        fields.number(name, default if is_gguf else 0.0)
        for name, default in (("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0))
    )
    has_qkv_bias, has_out_bias = gemma_biases(fields)
    mlp = MLP(fields.integer("intermediate_size"), gemma_activation(fields))
    layers = tuple(
        Layer(
            Attention(
                rope,
                scale=gemma_scale(fields, _LAYERS_OF_27B),
                softcap=attention_cap,
                window=window,
                qkv_bias=has_qkv_bias,
                out_bias=has_out_bias,
            ),
            mlp,
            norms="around",
        )
        for window in layer_windows(fields, count, pattern, default=4096 if is_gguf else 0)
    )
    return DecoderSpec(
        layers,
        gemma_norm(fields),
        embedding_scale=gemma_embedding_scale(fields),
        logit_softcap=logit_cap,
    )


def gemma_norm(fields: Fields) -> Norm:
    """Return the norm: 1 is added to its weights, in GGUF files by the converter."""
    return Norm(fields.number("rms_norm_eps"), offset=0.0 if fields.kind == "gguf" else 1.0)


def gemma_activation(fields: Fields) -> Activation:
    # transformers does not look at hidden_act, which old files have beside it; nor must we.
    fields.harmless(["hidden_act"])
    return read_activation(fields, "hidden_activation", "gelu_pytorch_tanh")


def gemma_embedding_scale(fields: Fields) -> float:
    """Return sqrt(hidden size), exact as llama.cpp has it.

    transformers rounds it to the arithmetic's dtype, 25.298 to 25.25 in bfloat16. In float32 both
    have this.
    """
    return float(fields.integer("hidden_size") ** 0.5)


def gemma_scale(fields: Fields, layers_of_27b: int) -> float:
    """Return what scores are multiplied by. GGUF files do not say; the number of layers does."""
    if fields.kind == "huggingface":
        return float(fields.number("query_pre_attn_scalar") ** -0.5)
    if num_layers(fields) == layers_of_27b:
        size = fields.integer("hidden_size") // fields.integer("num_attention_heads")
        return float(size**-0.5)
    return float(head_dim(fields) ** -0.5)


def gemma_biases(fields: Fields, *, may_see_ahead: bool = False) -> tuple[bool, bool]:
    """Return whether queries, keys and values have biases, and whether the output has."""
    if may_see_ahead:
        return has_qkv_bias(fields), has_out_bias(fields)
    fields.must_be(
        "use_bidirectional_attention",
        False,
        "tokens would see those after them, as Gemma3TextModel's alone do, which embeds",
    )
    return has_qkv_bias(fields), has_out_bias(fields)


FAMILY = Family(
    name="gemma2",
    huggingface=("Gemma2ForCausalLM",),
    gguf=("gemma2",),
    spec=_spec,
    hf_names=hf_names(GEMMA_PARTS),
    gguf_names=gguf_names(),
    defaults=GEMMA2_DEFAULTS,
    harmless=frozenset({"cache_implementation"}),
    tie_word_embeddings=True,
    models="Gemma 2",
)
