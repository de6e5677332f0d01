"""MPNet (Song et al. 2020): learned positions, and a bias of attention by distance."""

from backend.config.encoder_fields import GGUF_NAMES, HARMLESS, encoder_names, encoder_spec
from backend.config.families.family import Family
from backend.config.fields import Fields
from backend.config.spec import EncoderSpec, RelativeBias

# transformers 5.23 fixes it (MPNetModel.embeddings.padding_idx), whatever pad_token_id says.
PADDING_ID = 1


def _spec(fields: Fields) -> EncoderSpec:
    # The table may have other rows than the 32 buckets that transformers 5.23 counts in any case.
    bias = RelativeBias(fields.integer("relative_attention_num_buckets", 32))
    return encoder_spec(
        fields, position_offset=PADDING_ID + 1, has_token_types=False, relative_bias=bias
    )


FAMILY = Family(
    name="mpnet",
    huggingface=("MPNetModel", "MPNetForMaskedLM", "MPNetForSequenceClassification"),
    gguf=(),
    spec=_spec,
    hf_names=encoder_names(
        ("mpnet.", ""),
        {
            "self_attn.q_proj": "attention.attn.q",
            "self_attn.k_proj": "attention.attn.k",
            "self_attn.v_proj": "attention.attn.v",
            "self_attn.o_proj": "attention.attn.o",
            "input_layernorm": "attention.LayerNorm",
            "mlp.up_proj": "intermediate.dense",
            "mlp.down_proj": "output.dense",
            "post_attention_layernorm": "output.LayerNorm",
        },
        top={
            "model.relative_bias": "encoder.relative_attention_bias",
            "pooler.dense": "/classifier.dense",
            "classifier": "/classifier.out_proj",
        },
    ),
    gguf_names=GGUF_NAMES,
    harmless=HARMLESS,
    models="MPNet; all-mpnet-base",
)
