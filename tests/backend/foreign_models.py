"""Tiny random models of classes that have no family of ours, written by transformers."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.backend.factories import tiny_config, write_tiny_llama

# Three KV heads: two ranks share them unevenly.
FIELDS: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def write_foreign(path: Path, architecture: str, **fields: Any) -> Path:
    """Write a directory of a class of transformers, with a tokenizer, and return it.

    fields: of its configuration; None leaves one out that FIELDS has.
    """
    import transformers

    write_tiny_llama(path)  # its tokenizer; the rest is overwritten
    told = {name: value for name, value in (FIELDS | fields).items() if value is not None}
    cls = getattr(transformers, architecture)
    assert told["vocab_size"] == tiny_config().vocab_size
    model = cls(cls.config_class(**told)).float()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2:
                values = ("norm" in name) + 0.1 * values
            else:
                values = values * (0.3 if "embed" in name else parameter.shape[-1] ** -0.5)
            parameter.copy_(values)
    (path / "model.safetensors").unlink()
    model.save_pretrained(path)
    return path


def reference_logits(path: Path, architecture: str, prompt: list[int]) -> Tensor:
    """Return what transformers' own forward gives, float32, [T, vocabulary]."""
    import transformers

    cls = getattr(transformers, architecture)
    model = cls.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.inference_mode():
        logits: Tensor = model(torch.tensor([prompt])).logits[0]
    return logits
