"""NomicBERT (Nussbaum et al. 2024): a BERT that turns, with gates and without most biases."""

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

# Of the files that Nomic's own code reads, what it must say.
_FIXED = {
    "causal": False,
    "prenorm": False,
    "parallel_block": False,
    "parallel_block_tied_norm": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "use_rms_norm": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
}


def _spec(fields: Fields) -> DecoderSpec:
    for name, value in _FIXED.items():
        fields.must_be(name, value, "nothing else is known of NomicBERT")
    if "activation_function" in fields:
        fields.one_of("activation_function", ["swiglu"], "swiglu")
    length = fields.integer("max_trained_positions", 0)
    if length and "rope_parameters" not in fields:
        # What is beyond would be stretched by how long a text is.
        fields.add("max_position_embeddings", length)
    activation = read_activation(fields, "hidden_act", "silu")
    mlp = MLP(fields.integer("intermediate_size"), activation)
    return turning_encoder(fields, mlp, theta=1000.0, has_bias=False, num_types=2, eps=1e-12)


FAMILY = Family(
    name="nomic_bert",
    huggingface=(
        "NomicBertModel",
        "NomicBertForMaskedLM",
        "NomicBertForSequenceClassification",
    ),
    gguf=("nomic-bert",),
    spec=_spec,
    hf_names=hf_names(
        {
            "self_attn.o_proj": "attn.out_proj",
            "input_layernorm": "norm1",
            "mlp.gate_proj": "mlp.fc12",
            "mlp.up_proj": "mlp.fc11",
            "mlp.down_proj": "mlp.fc2",
            "post_attention_layernorm": "norm2",
        },
        fused={"attn.Wqkv": QKV},
        top=EMBEDDINGS
        | {
            "model.embedding_norm": "emb_ln",
            "pooler.dense": "pooler.dense",
            "classifier": "/classifier",
        },
        layer="encoder.layers.{i}.",
        prefixes=("nomic_bert.", "bert.", ""),
        ignored=IGNORED,
    ),
    gguf_names=GGUF_NAMES,
    # As Nomic's own code has them.
    aliases={
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_layer": "num_hidden_layers",
        "n_positions": "max_position_embeddings",
        "layer_norm_epsilon": "layer_norm_eps",
        "rotary_emb_base": "rope_theta",
    },
    defaults={
        "vocab_size": 30528,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 2048,
    },
    harmless=HARMLESS
    | frozenset(
        "attn_pdrop embd_pdrop resid_pdrop dense_seq_output fused_bias_fc fused_dropout_add_ln "
        "pad_vocab_size_multiple reorder_and_upcast_attn summary_activation "
        "summary_first_dropout summary_proj_to_labels summary_type summary_use_proj "
        "use_flash_attn use_xentropy".split()
    ),
    models="nomic-embed-text 1 and 1.5",
    checked="vectors of a tiny GGUF file beside llama.cpp",
)
