"""Jina's embeddings 3 (Sturua et al. 2024) without its adapters: an XLM-R that turns."""

from backend.config.activations import read_activation
from backend.config.families.family import Family
from backend.config.families.names import hf_names
from backend.config.fields import Fields
from backend.config.spec import MLP, DecoderSpec
from backend.config.turning_encoders import (
    EMBEDDINGS,
    GGUF_NAMES,
    HARMLESS,
    IGNORED,
    QKV,
    turning_encoder,
)


def _spec(fields: Fields) -> DecoderSpec:
    activation = read_activation(fields, "hidden_act", "gelu")
    mlp = MLP(fields.integer("intermediate_size"), activation, is_gated=False, has_bias=True)
    return turning_encoder(fields, mlp, theta=20000.0, has_bias=True, num_types=1, eps=1e-5)


FAMILY = Family(
    name="jina_embeddings_v3",
    huggingface=(
        "JinaEmbeddingsV3Model",
        "JinaEmbeddingsV3ForMaskedLM",
        "JinaEmbeddingsV3ForSequenceClassification",
    ),
    gguf=("jina-bert-v3",),
    spec=_spec,
    hf_names=hf_names(
        {
            "self_attn.o_proj": "mixer.out_proj",
            "input_layernorm": "norm1",
            "mlp.up_proj": "mlp.fc1",
            "mlp.down_proj": "mlp.fc2",
            "post_attention_layernorm": "norm2",
        },
        fused={"mixer.Wqkv": QKV},
        top=EMBEDDINGS
        | {
            "model.embedding_norm": "emb_ln",
            "pooler.dense": "/classifier.dense",
            "classifier": "/classifier.out_proj",
        },
        layer="encoder.layers.{i}.",
        prefixes=("roberta.", ""),
        ignored=IGNORED,
    ),
    gguf_names=GGUF_NAMES,
    defaults={
        "vocab_size": 250002,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "max_position_embeddings": 8194,
    },
    harmless=HARMLESS,
    models="jina-embeddings-v3 as transformers 5 writes it, adapters merged",
    checked="vectors of a tiny GGUF file beside llama.cpp",
)
