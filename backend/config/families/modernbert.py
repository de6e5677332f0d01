"""ModernBERT (Warner et al. 2024): an encoder that turns, with windows in two layers of three."""

from backend.config.activations import read_activation
from backend.config.classifier_fields import is_scorer
from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope import Rope
from backend.config.rope_fields import read_rope
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, Classifier, DecoderSpec, Layer, Norm
from backend.config.windows import FULL, SLIDING, window_pattern

# Of what sees all tokens, and of what sees a window.
_THETAS = {FULL: ("global_rope_theta", 160000.0), SLIDING: ("local_rope_theta", 10000.0)}

# Of what a classifier is, by llama.cpp's numbers.
_GGUF_POOLING = {1: "mean", 2: "cls"}


def _spec(fields: Fields) -> DecoderSpec:
    # What the cards' files say of an encoder without positions.
    fields.must_be("position_embedding_type", "absolute", "heads turn, and nothing else is known")
    fields.must_be("sparse_prediction", False, "it is for training")
    fields.must_be("attention.causal", False, "an encoder sees what follows, too")
    is_gguf = fields.kind == "gguf"
    eps = fields.number("layer_norm_eps" if is_gguf else "norm_eps", 1e-5)
    norm = Norm(eps, kind="layer", has_bias=fields.flag("norm_bias", False))
    has_bias = fields.flag("attention_bias", False)
    mlp = MLP(
        fields.integer("intermediate_size"),
        read_activation(fields, "hidden_activation", "gelu"),
        has_bias=fields.flag("mlp_bias", False),
    )
    kinds = _gguf_kinds(fields) if is_gguf else _kinds(fields)
    ropes = _gguf_ropes(fields) if is_gguf else _ropes(fields)
    # Half on each side, and the token itself.
    window = fields.integer("sliding_window" if is_gguf else "local_attention", 128) // 2 + 1
    layers = tuple(
        Layer(
            Attention(
                ropes[kind],
                window=window if kind == SLIDING else 0,
                qkv_bias=has_bias,
                out_bias=has_bias,
            ),
            mlp,
            is_input_normed=index > 0,
        )
        for index, kind in enumerate(kinds)
    )
    return DecoderSpec(
        layers, norm, sees_ahead=True, embedding_norm=norm, classifier=_classifier(fields)
    )


def _kinds(fields: Fields) -> list[str]:
    """Return what each layer sees."""
    count, every = num_layers(fields), fields.integer("global_attn_every_n_layers", 3)
    if (kinds := fields.raw("layer_types")) is None:
        return [SLIDING if every > 0 and index % every else FULL for index in range(count)]
    if not isinstance(kinds, list) or len(kinds) != count or {*kinds} - {FULL, SLIDING}:
        raise ModelError(f"layer_types must say {FULL} or {SLIDING} of each of {count} layers")
    return kinds


def _gguf_kinds(fields: Fields) -> list[str]:
    """Return what each layer sees. As a number, the pattern begins with one that sees all."""
    count = num_layers(fields)
    pattern = window_pattern(fields, count, 3)
    if fields.integer("sliding_window", 0) <= 0:
        return [FULL] * count
    if isinstance(pattern, int):
        pattern = [not pattern or index % pattern > 0 for index in range(count)]
    return [SLIDING if has_window else FULL for has_window in pattern]


def _gguf_ropes(fields: Fields) -> dict[str, Rope]:
    full = read_rope(fields, head_dim(fields), theta=10000.0)
    local = fields.number("rope.freq_base_swa", 10000.0)
    return {FULL: full, SLIDING: Rope(full.dim, local)}


def _ropes(fields: Fields) -> dict[str, Rope]:
    """Return how each type of layer turns."""
    parameters = fields.raw("rope_parameters") or {}
    if not isinstance(parameters, dict) or parameters.keys() - _THETAS.keys():
        raise ModelError(f"rope_parameters must have {FULL} and {SLIDING}, no other field")
    scaling = fields.raw("rope_scaling") or {}
    length = fields.integer("max_position_embeddings", 8192)
    ropes = {}
    for kind, (name, theta) in _THETAS.items():
        own = {"rope_theta": fields.number(name, theta)} | (parameters.get(kind) or {}) | scaling
        of_kind = {"rope_parameters": own, "max_position_embeddings": length}
        ropes[kind] = read_rope(Fields("huggingface", of_kind, {}), head_dim(fields))
    return ropes


def _classifier(fields: Fields) -> Classifier | None:
    of = fields.one_of("classifier_pooling", ["cls", "mean"], "cls")
    if fields.kind == "gguf":
        of = _GGUF_POOLING.get(fields.integer("classifier.pooling_type", 1), "")
        if not of:
            raise ModelError("metadata key modern-bert.classifier.pooling_type is neither 1 nor 2")
    activation = read_activation(fields, "classifier_activation", "gelu")
    has_bias = fields.flag("classifier_bias", False)
    if not is_scorer(fields):
        return None
    return Classifier(
        "cls" if of == "cls" else "mean", activation, has_norm=True, dense_bias=has_bias
    )


FAMILY = Family(
    name="modernbert",
    huggingface=(
        "ModernBertModel",
        "ModernBertForMaskedLM",
        "ModernBertForSequenceClassification",
    ),
    gguf=("modern-bert",),
    spec=_spec,
    hf_names=hf_names(
        {
            "input_layernorm": "attn_norm",
            "self_attn.o_proj": "attn.Wo",
            "post_attention_layernorm": "mlp_norm",
            "mlp.down_proj": "mlp.Wo",
        },
        fused={
            "attn.Wqkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "mlp.Wi": ("mlp.gate_proj", "mlp.up_proj"),
        },
        top={
            "model.embed_tokens": "embeddings.tok_embeddings",
            "model.embedding_norm": "embeddings.norm",
            "model.norm": "final_norm",
            "pooler.dense": "/head.dense",
            "pooler.norm": "/head.norm",
            "classifier": "/classifier",
        },
        prefixes=("model.", ""),
        ignored=r"(head|decoder)\..*",
    ),
    gguf_names=gguf_names(
        {"mlp.gate_proj": (), "mlp.up_proj": ()},
        fused={"ffn_up": ("mlp.gate_proj", "mlp.up_proj")},
        top={
            "model.embedding_norm": "token_embd_norm",
            "pooler.dense": "cls",
            "pooler.norm": "cls.norm",
            "classifier": "cls.output",
        },
        # The head of a model without a classifier.
        ignored=r"cls\.(norm\.)?weight",
    ),
    # What ModernBertConfig of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 50368,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "max_position_embeddings": 8192,
    },
    harmless=frozenset(
        "cls_token_id classifier_dropout decoder_bias deterministic_flash_attn embedding_dropout "
        "mlp_dropout initializer_cutoff_factor reference_compile repad_logits_with_grad "
        "sparse_pred_ignore_index layer_norm_eps sentence_transformers "
        "sbert_ce_default_activation_function".split()
    ),
    models="ModernBERT; gte-modernbert, nomic's modernbert-embed, and rerankers of it",
    checked="vectors and scores of a tiny GGUF file beside llama.cpp",
)
