"""What the encoders of BERT's kind (Devlin et al. 2019) share: layers, names, fields."""

from backend.config.classifier_fields import is_scorer
from backend.config.fields import Fields
from backend.config.sizes import num_layers
from backend.config.sources import Names
from backend.config.spec import (
    MLP,
    Activation,
    Attention,
    Classifier,
    EncoderSpec,
    Layer,
    LearnedPositions,
    Norm,
    RelativeBias,
)

# transformers' name -> ours.
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}
# Dropout is for training alone; the rest says how a classifier is trained.
HARMLESS = frozenset(
    "attention_probs_dropout_prob hidden_dropout_prob classifier_dropout position_embedding_type "
    "directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers "
    "pooler_size_per_head pooler_type sentence_transformers "
    "sbert_ce_default_activation_function output_past".split()
)
# Heads that other uses of the model need, and tables of numbers that count up.
IGNORED = r"(.*\.)?(pooler\..*|embeddings\.(position_ids|token_type_ids))|cls\..*|lm_head\..*"
BERT_PARTS: dict[str, str | tuple[str, ...]] = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.o_proj": "attention.output.dense",
    "input_layernorm": ("attention.output.LayerNorm",),
    "mlp.up_proj": "intermediate.dense",
    "mlp.down_proj": "output.dense",
    "post_attention_layernorm": "output.LayerNorm",
}

GGUF_NAMES = Names(
    ("",),
    "blk.{i}.",
    {
        "model.embed_tokens": "token_embd",
        "model.embed_positions": "position_embd",
        "model.embed_token_types": "token_types",
        "model.embedding_norm": "token_embd_norm",
        "pooler.dense": "cls",
        "classifier": "cls.output",
    },
    {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "input_layernorm": "attn_output_norm",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "post_attention_layernorm": "layer_output_norm",
    },
    {"attn_qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")},
    # The pooler of a model without a classifier.
    ignored=r"cls\.(weight|bias)",
)


def encoder_spec(
    fields: Fields,
    *,
    position_offset: int = 0,
    has_token_types: bool = True,
    relative_bias: RelativeBias | None = None,
) -> EncoderSpec:
    """Return the spec of an encoder whose norms stand behind each sum.

    position_offset: the row of the first position.
    """
    fields.must_be("position_embedding_type", "absolute", "only learned positions are supported")
    fields.must_be("is_decoder", False, "it would see what stands before a token only")
    fields.must_be("add_cross_attention", False, "there is nothing to attend to")
    name = fields.one_of("hidden_act", list(_ACTIVATIONS), "gelu")
    mlp = MLP(
        fields.integer("intermediate_size"), _ACTIVATIONS[name], is_gated=False, has_bias=True
    )
    attention = Attention(rope=None, qkv_bias=True, out_bias=True)
    norm = Norm(fields.number("layer_norm_eps", 1e-12), kind="layer", has_bias=True)
    return EncoderSpec(
        layers=(Layer(attention, mlp, norms="after_sum"),) * num_layers(fields),
        norm=norm,
        positions=LearnedPositions(fields.integer("max_position_embeddings", 512), position_offset),
        token_types=fields.integer("type_vocab_size", 2) if has_token_types else 0,
        relative_bias=relative_bias,
        classifier=Classifier() if is_scorer(fields) else None,
    )


def encoder_names(
    prefixes: tuple[str, ...],
    parts: dict[str, str | tuple[str, ...]] = BERT_PARTS,
    *,
    top: dict[str, str | tuple[str, ...]],
) -> Names:
    """Return names of Hugging Face's directories. top: of the classifier and what else differs."""
    common: dict[str, str | tuple[str, ...]] = {
        "model.embed_tokens": "embeddings.word_embeddings",
        "model.embed_positions": "embeddings.position_embeddings",
        "model.embed_token_types": "embeddings.token_type_embeddings",
        "model.embedding_norm": "embeddings.LayerNorm",
    }
    return Names(prefixes, "encoder.layer.{i}.", common | top, parts, ignored=IGNORED)
