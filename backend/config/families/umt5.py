"""UMT5 (Chung et al. 2023): an mT5 whose layers each have a relative bias of their own."""

from dataclasses import replace

from backend.config.families import t5
from backend.config.families.family import Family
from backend.config.families.mt5 import DEFAULTS
from backend.config.fields import Fields
from backend.config.spec import DecoderSpec


def _spec(fields: Fields) -> DecoderSpec:
    """Logits are scaled where the embedding is the head.

    As transformers 4.57 has it, and as it was trained. 5.23 takes every UMT5 for tied, and scales
    the logits of a head of its own, too: the best token is the same, its probability is not.
    """
    fields.harmless(("tie_word_embeddings",))
    is_untied = "lm_head.weight" in fields.tensors
    scale = 1.0 if is_untied else t5.tied_scale(fields)
    return t5.spec_of(fields, logit_scale=scale, has_shared_bias=False)


FAMILY: Family = replace(
    t5.FAMILY,
    name="umt5",
    huggingface=("UMT5ForConditionalGeneration",),
    gguf=(),
    spec=_spec,
    defaults=DEFAULTS,
    models="UMT5",
)
