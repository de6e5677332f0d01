"""EmbeddingGemma (Google 2025): a Gemma 3 for vectors, whose tokens see those behind them."""

from backend.config.families.family import Family
from backend.config.families.gemma2 import GEMMA_PARTS
from backend.config.families.gemma3 import GEMMA3_DEFAULTS, gemma3_spec
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.spec import DecoderSpec


def _spec(fields: Fields) -> DecoderSpec:
    if fields.kind == "huggingface":
        return gemma3_spec(fields, sees_ahead=fields.flag("use_bidirectional_attention"))
    fields.must_be("attention.causal", False, "tokens of these models see those behind them")
    return gemma3_spec(fields, sees_ahead=True)


FAMILY = Family(
    name="gemma_embedding",
    huggingface=("Gemma3TextModel",),
    gguf=("gemma-embedding",),
    spec=_spec,
    hf_names=hf_names(GEMMA_PARTS),
    gguf_names=gguf_names(),
    defaults=GEMMA3_DEFAULTS,
    harmless=frozenset({"cache_implementation", "_sliding_window_pattern"}),
    tie_word_embeddings=True,
    models="EmbeddingGemma",
)
