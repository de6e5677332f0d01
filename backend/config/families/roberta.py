"""RoBERTa (Liu et al. 2019) and XLM-R (Conneau et al. 2020): BERTs whose positions begin later.

Row 0 to pad_token_id of the positions stand for padding, which nobody sends here: the first token
has the next row. A client that puts padding into its token ids gets other positions than from
transformers, which leaves it out when it counts.
"""

from backend.config.encoder_fields import GGUF_NAMES, HARMLESS, encoder_names, encoder_spec
from backend.config.families.family import Family
from backend.config.fields import Fields
from backend.config.spec import EncoderSpec


def _spec(fields: Fields) -> EncoderSpec:
    return encoder_spec(fields, position_offset=fields.integer("pad_token_id", 1) + 1)


_NAMES = encoder_names(
    ("roberta.", ""),
    top={"pooler.dense": "/classifier.dense", "classifier": "/classifier.out_proj"},
)

FAMILY = Family(
    name="roberta",
    huggingface=(
        "RobertaModel",
        "RobertaForMaskedLM",
        "RobertaForSequenceClassification",
        "XLMRobertaModel",
        "XLMRobertaForMaskedLM",
        "XLMRobertaForSequenceClassification",
        "CamembertModel",
        "CamembertForMaskedLM",
        "CamembertForSequenceClassification",
    ),
    # Their GGUF files are those of a BERT: the converter cuts off the first positions.
    gguf=(),
    spec=_spec,
    hf_names=_NAMES,
    gguf_names=GGUF_NAMES,
    harmless=HARMLESS,
    models="RoBERTa, XLM-R, CamemBERT; BGE-M3 and its rerankers",
)
