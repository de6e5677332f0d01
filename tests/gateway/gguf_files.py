"""Writes small GGUF files for tests, with the `gguf` package: its format judges our reader."""

from pathlib import Path
from typing import Any

import gguf

# Pieces that are joined in this order.
HELLO = ["he", "▁t", "ll", "▁the", "hell", "hello", "▁hello", "▁▁", "▁", *"helot"]
_SKIPPED = ("GGUF.", "general.architecture")


def write_gguf(path: Path, pairs: dict[str, Any], *, architecture: str = "llama") -> Path:
    """Write a file without tensors that holds these keys; plain values choose their own types."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in pairs.items():
        if not key.startswith(_SKIPPED):
            _add(writer, key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def _add(writer: Any, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case str():
            writer.add_string(key, value)
        case int():
            writer.add_uint32(key, value) if value >= 0 else writer.add_int32(key, value)
        case float():
            writer.add_float32(key, value)
        case _ if key.endswith("_charsmap"):
            writer.add_array(key, bytes(value))
        case _:
            writer.add_array(key, value)


def sentencepiece_pairs(scores: dict[str, float]) -> dict[str, Any]:
    """Return the metadata of a "llama" vocabulary: 3 control tokens, 256 bytes, then these pieces.

    Ids: 0 <unk>, 1 <s>, 2 </s>, 3 + byte, and 259 + position in `scores`.
    """
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *byte_tokens, *scores],
        "tokenizer.ggml.scores": [0.0] * 259 + list(scores.values()),
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(scores),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def hello_pairs() -> dict[str, Any]:
    """Return the metadata of a "llama" vocabulary whose pieces are HELLO, from id 259 on."""
    return sentencepiece_pairs({text: -float(rank) for rank, text in enumerate(HELLO)})
