"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm, biases, GELU.

Its directories have matrices as they were trained, [in, out], and queries, keys and values in one.
"""

from backend.config.activations import read_activation
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, LearnedPositions, Norm


def _spec(fields: Fields) -> DecoderSpec:
    hidden = fields.integer("hidden_size")
    fields.must_be("add_cross_attention", False, "there is no encoder to attend to")
    heads = fields.integer("num_attention_heads")
    fields.must_be("num_key_value_heads", heads, "this family has no groups of heads")
    mlp = MLP(
        fields.integer("intermediate_size", 4 * hidden),
        read_activation(fields, "hidden_act", "gelu_new"),
        is_gated=False,
        has_bias=True,
    )
    layers = tuple(
        Layer(Attention(None, scale, qkv_bias=True, out_bias=True), mlp)
        for scale in _scales(fields)
    )
    return DecoderSpec(
        layers,
        Norm(fields.number("layer_norm_eps"), "layer", has_bias=True),
        positions=LearnedPositions(fields.integer("max_position_embeddings")),
    )


def _scales(fields: Fields) -> list[float]:
    """Return what each layer's scores are multiplied by. Only directories can say."""
    scale = head_dim(fields) ** -0.5 if fields.flag("scale_attn_weights", True) else 1.0
    by_layer = fields.flag("scale_attn_by_inverse_layer_idx")
    return [scale / (index + 1 if by_layer else 1) for index in range(num_layers(fields))]


GPT_TOP: dict[str, str | tuple[str, ...]] = {
    "model.embed_tokens": "wte",
    "model.embed_positions": "wpe",
    "model.norm": "ln_f",
}

# What its kin have in a layer as well, and the fields of their config.json.
GPT2_LAYER: dict[str, str | tuple[str, ...]] = {
    "input_layernorm": "ln_1",
    "self_attn.o_proj": "attn.c_proj",
    "post_attention_layernorm": "ln_2",
    "mlp.up_proj": "mlp.c_fc",
    "mlp.down_proj": "mlp.c_proj",
}
GPT2_ALIASES = {
    "n_embd": "hidden_size",
    "n_inner": "intermediate_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "activation_function": "hidden_act",
}
# The causal mask, as old files have it.
GPT2_MASKS = r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)"

FAMILY = Family(
    name="gpt2",
    huggingface=("GPT2LMHeadModel",),
    gguf=("gpt2",),
    spec=_spec,
    hf_names=hf_names(
        GPT2_LAYER,
        fused={"attn.c_attn": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")},
        top=GPT_TOP,
        prefixes=("transformer.", ""),
        layer="h.{i}.",
        transposed=frozenset({"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}),
        ignored=GPT2_MASKS,
    ),
    gguf_names=gguf_names(),
    aliases=GPT2_ALIASES,
    # What GPT2Config of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 50257,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 1024,
        "layer_norm_eps": 1e-5,
    },
    # n_ctx: n_positions again, in old files. reorder_and_upcast_attn: the same in another order.
    harmless=frozenset(
        """
        n_ctx resid_pdrop embd_pdrop attn_pdrop reorder_and_upcast_attn summary_type
        summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout
        """.split()
    ),
    tie_word_embeddings=True,
    models="GPT-2, DistilGPT-2",
)
