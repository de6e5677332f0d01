"""EuroBERT (Boizard et al. 2025): a Llama whose tokens see those behind them.

Jina's embeddings 5 nano are built like it.
"""

import msgspec

from backend.config.families.family import Family
from backend.config.families.llama import FAMILY as LLAMA
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.spec import DecoderSpec


def _spec(fields: Fields) -> DecoderSpec:
    fields.must_be("attention.causal", False, "an encoder sees what follows, too")
    spec = LLAMA.spec(fields)
    assert isinstance(spec, DecoderSpec)
    layer = spec.layers[0]
    assert layer.attention and layer.attention.rope
    # GGUF files of a Llama have the rows of heads in another order; these have it as directories.
    rope = msgspec.structs.replace(layer.attention.rope, is_interleaved=False)
    attention = msgspec.structs.replace(layer.attention, rope=rope)
    layer = msgspec.structs.replace(layer, attention=attention)
    layers = (layer,) * len(spec.layers)
    return msgspec.structs.replace(spec, layers=layers, sees_ahead=True)


FAMILY = Family(
    name="eurobert",
    huggingface=("EuroBertModel", "EuroBertForMaskedLM"),
    gguf=("eurobert",),
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
    checked="vectors of a tiny GGUF file beside llama.cpp",
)
