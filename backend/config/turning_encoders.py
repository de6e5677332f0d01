"""What encoders of BERT's kind share that turn heads in the place of positions.

NomicBERT, Jina's embeddings 3, GTE: norms stand behind each sum, tokens and types are embedded and
normalised; they run as decoders whose tokens see those behind them.
"""

import msgspec

from backend.config.classifier_fields import is_scorer
from backend.config.encoder_fields import GGUF_NAMES as BERT_GGUF_NAMES
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, Classifier, DecoderSpec, Layer, Norm

# Dropout is for training alone.
HARMLESS = frozenset(
    "attention_probs_dropout_prob hidden_dropout_prob classifier_dropout sentence_transformers "
    "sbert_ce_default_activation_function".split()
)
# Heads that other uses of the model need, and tables of numbers that count up.
IGNORED = r"(.*\.)?(pooler\..*|embeddings\.(position_ids|token_type_ids))|(cls|lm_head)\..*"
# What directories of all of them call alike; the file's one tensor -> ours.
EMBEDDINGS: dict[str, str | tuple[str, ...]] = {
    "model.embed_tokens": "embeddings.word_embeddings",
    "model.embed_token_types": "embeddings.token_type_embeddings",
}
QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
GGUF_NAMES = msgspec.structs.replace(
    BERT_GGUF_NAMES, parts=BERT_GGUF_NAMES.parts | {"mlp.gate_proj": "ffn_gate"}
)


def turning_encoder(
    fields: Fields, mlp: MLP, *, theta: float, has_bias: bool, num_types: int, eps: float
) -> DecoderSpec:
    """Return the spec. theta: of rotation, where the file does not say. has_bias: of the linears
    of attention. num_types: of tokens, where the file does not say. eps: of norms, likewise."""
    if fields.kind == "gguf":
        fields.must_be("attention.causal", False, "an encoder sees what follows, too")
        num_types = fields.tensors.get("token_types.weight", (0,))[0]
    fields.must_be("position_embedding_type", "rotary", "then positions are learned")
    fields.must_be("is_decoder", False, "it would see what stands before a token only")
    norm = Norm(fields.number("layer_norm_eps", eps), kind="layer", has_bias=True)
    rope = read_rope(fields, head_dim(fields), theta=theta)
    layer = Layer(Attention(rope, qkv_bias=has_bias, out_bias=has_bias), mlp, norms="after_sum")
    return DecoderSpec(
        (layer,) * num_layers(fields),
        norm,
        has_final_norm=False,
        sees_ahead=True,
        token_types=fields.integer("type_vocab_size", num_types),
        embedding_norm=norm,
        classifier=Classifier() if is_scorer(fields) else None,
    )
