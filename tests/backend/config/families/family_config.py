"""Makes a ModelConfig of a family and fields alone, without a file."""

from collections.abc import Mapping
from typing import Any

from backend.config.assemble import make_config
from backend.config.families.family import Family
from backend.config.fields import Fields, FileKind
from backend.config.model_config import ModelConfig
from backend.config.spec import Attention, DecoderSpec, Layer


def config_of(
    family: Family,
    values: Mapping[str, Any],
    kind: FileKind = "huggingface",
    tensors: Mapping[str, tuple[int, ...]] | None = None,
) -> ModelConfig:
    """Return what a file says. values: by the family's names, of GGUF by the common ones."""
    is_gguf = kind == "gguf"
    aliases = {} if is_gguf else family.aliases
    fields = Fields(
        kind,
        {aliases.get(name, name): value for name, value in values.items()},
        tensors or {},
        {common: own for own, common in aliases.items()},
        {} if is_gguf else family.defaults,
    )
    for name in ("vocab_size", "tie_word_embeddings"):
        fields.raw(name)  # read with the file
    return make_config(
        family,
        fields,
        name="tiny",
        vocab_size=100,
        tie_word_embeddings=False,
        eos_token_ids=(),
        bos_token_id=None,
        stored_dtype="float32",
    )


def decoder_of(config: ModelConfig) -> DecoderSpec:
    """Return the spec of a model that generates."""
    assert isinstance(config.spec, DecoderSpec)
    return config.spec


def attention_of(layer: Layer) -> Attention:
    """Return how a layer attends that does."""
    assert layer.attention is not None
    return layer.attention
