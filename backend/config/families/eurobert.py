"""EuroBERT (Boizard et al. 2025): a Llama whose tokens see those behind them."""

import msgspec

from backend.config.families.family import Family
from backend.config.families.llama import FAMILY as LLAMA
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.spec import DecoderSpec


def _spec(fields: Fields) -> DecoderSpec:
    spec = LLAMA.spec(fields)
    assert isinstance(spec, DecoderSpec)
    return msgspec.structs.replace(spec, sees_ahead=True)


FAMILY = Family(
    name="eurobert",
    huggingface=("EuroBertModel", "EuroBertForMaskedLM"),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(ignored=r"lm_head\..*"),
    gguf_names=gguf_names(),
    defaults={
        "vocab_size": 128256,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
    },
    harmless=frozenset(
        "mask_token_id mask_token bos_token eos_token pad_token classifier_pooling "
        "clf_pooling sentence_transformers".split()
    ),
    models="EuroBERT",
)
