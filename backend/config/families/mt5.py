"""mT5 (Xue et al. 2021): T5 v1.1 of many languages. Its logits are never scaled."""

from dataclasses import replace

from backend.config.families import t5
from backend.config.families.family import Family
from backend.config.fields import Fields
from backend.config.spec import DecoderSpec

# What MT5Config and UMT5Config of transformers say of fields that a config.json lacks.
DEFAULTS = {
    "vocab_size": 250112,
    "hidden_size": 512,
    "head_dim": 64,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "feed_forward_proj": "gated-gelu",
    "decoder_start_token_id": 0,
}


def _spec(fields: Fields) -> DecoderSpec:
    fields.harmless(("tie_word_embeddings",))
    return t5.spec_of(fields, logit_scale=1.0)


FAMILY: Family = replace(
    t5.FAMILY,
    name="mt5",
    huggingface=("MT5ForConditionalGeneration",),
    gguf=(),
    spec=_spec,
    defaults=DEFAULTS,
    models="mT5",
)
