"""BERT (Devlin et al. 2019), MiniLM and what is built like it; cross-encoders of it."""

from backend.config.encoder_fields import GGUF_NAMES, HARMLESS, encoder_names, encoder_spec
from backend.config.families.family import Family
from backend.config.fields import Fields
from backend.config.spec import EncoderSpec


def _spec(fields: Fields) -> EncoderSpec:
    if fields.kind == "gguf":
        fields.must_be("attention.causal", False, "an encoder sees what follows, too")
        types = fields.tensors.get("token_types.weight", (0,))
        fields.add("type_vocab_size", types[0] or None)
        return encoder_spec(fields, has_token_types=types[0] > 0)
    return encoder_spec(fields)


FAMILY = Family(
    name="bert",
    huggingface=(
        "BertModel",
        "BertForMaskedLM",
        "BertForPreTraining",
        "BertForSequenceClassification",
    ),
    gguf=("bert",),
    spec=_spec,
    hf_names=encoder_names(
        ("bert.", ""), top={"pooler.dense": "pooler.dense", "classifier": "/classifier"}
    ),
    gguf_names=GGUF_NAMES,
    harmless=HARMLESS,
    models="BERT; all-MiniLM, BGE, E5, GTE as sentence-transformers keep them",
    checked="all-MiniLM-L6-v2 served, vectors beside sentence-transformers",
)
