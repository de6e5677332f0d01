"""GTE (Zhang et al. 2024): a BERT that turns, with gates; multilingual embedders and rerankers."""

from backend.config.activations import read_activation
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.spec import MLP, DecoderSpec
from backend.config.turning_encoders import (
    EMBEDDINGS,
    HARMLESS,
    IGNORED,
    QKV,
    turning_encoder,
)

# Of the files that Alibaba's own code reads, what it must say.
_FIXED = {
    "layer_norm_type": "layer_norm",
    "logn_attention_scale": False,
    "logn_attention_clip1": False,
    "pack_qkv": True,
}


def _spec(fields: Fields) -> DecoderSpec:
    for name, value in _FIXED.items():
        fields.must_be(name, value, "nothing else is known of GTE")
    fields.default("position_embedding_type", "rotary")
    if fields.raw("position_embedding_type") == "rope":
        fields.add("position_embedding_type", "rotary")
    activation = read_activation(fields, "hidden_act", "gelu")
    mlp = MLP(fields.integer("intermediate_size"), activation, has_out_bias=True)
    return turning_encoder(fields, mlp, theta=160000.0, has_bias=True, num_types=1, eps=1e-12)


FAMILY = Family(
    name="gte",
    huggingface=(
        "GteModel",
        "GteForMaskedLM",
        "GteForSequenceClassification",
        "NewModel",
        "NewForMaskedLM",
        "NewForSequenceClassification",
    ),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(
        {
            "self_attn.o_proj": "attention.o_proj",
            "input_layernorm": "attn_ln",
            "post_attention_layernorm": "mlp_ln",
        },
        fused={
            "attention.qkv_proj": QKV,
            "mlp.up_gate_proj": ("mlp.up_proj", "mlp.gate_proj"),
        },
        top=EMBEDDINGS
        | {
            "model.embedding_norm": "embeddings.LayerNorm",
            "pooler.dense": "pooler.dense",
            "classifier": "/classifier",
        },
        layer="encoder.layer.{i}.",
        prefixes=("new.", "gte.", ""),
        ignored=IGNORED,
    ),
    gguf_names=gguf_names(),
    defaults={
        "vocab_size": 250048,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 8192,
    },
    harmless=HARMLESS
    | frozenset({"unpad_inputs", "use_memory_efficient_attention", "hidden_dropout"}),
    models="gte-multilingual-base, its reranker; gte-base and large 1.5",
)
