"""OPT (Zhang et al. 2022): learned positions, LayerNorm, biases, ReLU.

The 350M has its norms behind each sum and a narrower embedding between two projections; Galactica
(Taylor et al. 2022) has GELU and no biases.
"""

from backend.config.activations import read_activation
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.sizes import num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, LearnedPositions, Norm

# Rows before that of position 0: once those of padding, never used since.
_OFFSET = 2
# As torch's LayerNorm has it; transformers gives none.
_EPS = 1e-5


def _spec(fields: Fields) -> DecoderSpec:
    hidden = fields.integer("hidden_size")
    width = fields.integer("word_embed_proj_dim", hidden)
    has_bias = fields.flag("enable_bias", True)
    has_weight = fields.flag("layer_norm_elementwise_affine", True)
    is_before = fields.flag("do_layer_norm_before", True)
    # So in files made before transformers 4.20.
    has_no_final_norm = fields.flag("_remove_final_layer_norm")
    # Named in Galactica's files; transformers knows one way alone.
    fields.must_be("learned_embeddings", True, "positions are learned in this family")
    fields.must_be("scale_embeddings", False, "embeddings are not scaled in this family")
    heads = fields.integer("num_attention_heads")
    fields.must_be("num_key_value_heads", heads, "this family has no groups of heads")
    layer = Layer(
        Attention(rope=None, qkv_bias=has_bias, out_bias=has_bias),
        MLP(
            fields.integer("intermediate_size"),
            read_activation(fields, "hidden_act", "relu"),
            is_gated=False,
            has_bias=has_bias,
        ),
        norms="before" if is_before else "after_sum",
    )
    return DecoderSpec(
        (layer,) * num_layers(fields),
        Norm(_EPS, "layer", has_weight=has_weight, has_bias=has_weight),
        has_final_norm=is_before and not has_no_final_norm,
        embedding_width=0 if width == hidden else width,
        positions=LearnedPositions(fields.integer("max_position_embeddings") + _OFFSET, _OFFSET),
    )


FAMILY = Family(
    name="opt",
    huggingface=("OPTForCausalLM",),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(
        {
            "input_layernorm": "self_attn_layer_norm",
            "self_attn.o_proj": "self_attn.out_proj",
            "post_attention_layernorm": "final_layer_norm",
            "mlp.up_proj": "fc1",
            "mlp.down_proj": "fc2",
        },
        top={
            "model.embed_positions": "embed_positions",
            "model.project_in": "project_in",
            "model.project_out": "project_out",
            "model.norm": "final_layer_norm",
        },
        prefixes=("model.decoder.", "decoder.", ""),
    ),
    gguf_names=gguf_names(),
    aliases={"ffn_dim": "intermediate_size", "activation_function": "hidden_act"},
    # What OPTConfig of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 50272,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 2048,
        "num_attention_heads": 12,
    },
    harmless=frozenset("dropout activation_dropout layerdrop init_std".split()),
    tie_word_embeddings=True,
    models="OPT, Galactica",
)
