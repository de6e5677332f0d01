"""Writes a checkpoint as a Hugging Face directory in bfloat16, for servers that read nothing else.

The weights are those the file says, dequantised and rounded once. Called before a peer is started.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from backend.config.load import load_config
from backend.config.model_config import ModelConfig
from backend.weights.checkpoint import open_checkpoint
from gateway.text.chat_templates import load_chat_templates
from gateway.text.vocab.gguf import load_gguf
from gateway.text.vocab.vocabulary import Vocabulary
from tests.backend.factories import hf_fields, rope_of


def write_hf_copy(model: Path, directory: Path) -> Path:
    """Write what the GGUF file `model` holds to `directory`, unless it is there; return it."""
    weights = directory / "model.safetensors"
    if weights.exists():
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    config, vocabulary = load_config(model), load_gguf(model)
    checkpoint = open_checkpoint(model, config)
    tensors = {name: checkpoint.read(name).bfloat16() for name in checkpoint.names()}
    checkpoint.close()
    vocabulary.backend.save(str(directory / "tokenizer.json"))
    _write(directory / "config.json", _config(config))
    _write(directory / "tokenizer_config.json", _tokenizer_config(vocabulary, model))
    partial = weights.with_suffix(".partial")
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.rename(weights)  # last: what is interrupted begins again
    return directory


def _config(config: ModelConfig) -> dict[str, Any]:
    """Every end token, and what transformers 4 reads where 5 has other names."""
    return hf_fields(config) | {
        "rope_theta": rope_of(config).theta,
        "eos_token_id": list(config.eos_token_ids),
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
    }


def _tokenizer_config(vocabulary: Vocabulary, model: Path) -> dict[str, object]:
    def text(token_id: int | None) -> str | None:
        return None if token_id is None else vocabulary.backend.id_to_token(token_id)

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": text(vocabulary.bos_token_id),
        "eos_token": text(vocabulary.eos_token_id),
        "chat_template": load_chat_templates(model).get("default"),
    }


def _write(path: Path, fields: dict[str, object]) -> None:
    path.write_text(json.dumps(fields, indent=1))
