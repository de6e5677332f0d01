"""GPT-Neo (Black et al. 2021): a GPT-2 in which every other layer has a window.

Its scores are not scaled; queries, keys and values have no biases.
"""

from backend.config.activations import read_activation
from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.families.gpt2 import GPT_TOP
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.sizes import num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, LearnedPositions, Norm

_TYPES = ("global", "local")


def _spec(fields: Fields) -> DecoderSpec:
    mlp = MLP(
        fields.integer("intermediate_size", 4 * fields.integer("hidden_size")),
        read_activation(fields, "hidden_act", "gelu_new"),
        is_gated=False,
        has_bias=True,
    )
    heads = fields.integer("num_attention_heads")
    fields.must_be("num_key_value_heads", heads, "this family has no groups of heads")
    window = fields.integer("window_size", 256)
    if window < 1:
        raise ModelError(f"window_size must be above 0, is {window}")
    layers = tuple(
        Layer(Attention(None, 1.0, window=window if kind == "local" else 0, out_bias=True), mlp)
        for kind in _layer_types(fields)
    )
    return DecoderSpec(
        layers,
        Norm(fields.number("layer_norm_eps"), "layer", has_bias=True),
        positions=LearnedPositions(fields.integer("max_position_embeddings")),
    )


def _layer_types(fields: Fields) -> list[str]:
    """Return "global" or "local" for each layer, out of [[types, times], ..]."""
    try:
        types = [
            str(kind)
            for kinds, times in fields.raw("attention_types", [[[*_TYPES], 12]])
            for _ in range(times)
            for kind in kinds
        ]
    except (TypeError, ValueError):
        raise ModelError("attention_types is no list of [[type, ..], times]") from None
    if unknown := sorted(set(types) - set(_TYPES)):
        raise ModelError(f"attention_types: {unknown[0]!r} is not supported; {', '.join(_TYPES)}")
    if len(types) != num_layers(fields):
        raise ModelError(
            f"attention_types has {len(types)} entries, {fields.label('num_hidden_layers')} is "
            f"{num_layers(fields)}"
        )
    fields.must_be("attention_layers", types, "attention_types says otherwise")
    return types


FAMILY = Family(
    name="gpt_neo",
    huggingface=("GPTNeoForCausalLM",),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(
        {
            "input_layernorm": "ln_1",
            "self_attn.q_proj": "attn.attention.q_proj",
            "self_attn.k_proj": "attn.attention.k_proj",
            "self_attn.v_proj": "attn.attention.v_proj",
            "self_attn.o_proj": "attn.attention.out_proj",
            "post_attention_layernorm": "ln_2",
            "mlp.up_proj": "mlp.c_fc",
            "mlp.down_proj": "mlp.c_proj",
        },
        top=GPT_TOP,
        prefixes=("transformer.", ""),
        layer="h.{i}.",
        # The causal mask, as old files have it.
        ignored=r"(transformer\.)?h\.\d+\.attn\.attention\.(bias|masked_bias)",
    ),
    gguf_names=gguf_names(),
    aliases={
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "layer_norm_epsilon": "layer_norm_eps",
        "activation_function": "hidden_act",
    },
    # What GPTNeoConfig of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 50257,
        "hidden_size": 2048,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "max_position_embeddings": 2048,
        "layer_norm_eps": 1e-5,
    },
    harmless=frozenset(
        """
        resid_dropout embed_dropout classifier_dropout summary_type summary_use_proj
        summary_activation summary_proj_to_labels summary_first_dropout
        """.split()
    ),
    tie_word_embeddings=True,
    models="GPT-Neo",
)
