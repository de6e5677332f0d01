"""Writes tiny encoders as GGUF files, by llama.cpp's names and keys, as its converter does."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import safetensors.torch

from tests.backend.models.encoder_models import (
    CROSS_ENCODERS,
    SIZES,
    VOCAB_SIZE,
    write_model,
)

MEAN, CLS, RANK = 1, 2, 4
# As llama.cpp's converter has them for a classifier.
HEADS = {
    "bert.pooler.dense": "cls",
    "classifier": "cls.output",
    "classifier.dense": "cls",
    "classifier.out_proj": "cls.output",
    "head.dense": "cls",
    "head.norm": "cls.norm",
}


def add_vocabulary(writer: gguf.GGUFWriter, num_types: int) -> None:
    """Write words and special tokens: llama.cpp reads no file without."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    words = [f"\u2581word{index}" for index in range(VOCAB_SIZE - len(special))]
    writer.add_tokenizer_model("bert")
    writer.add_token_list(special + words)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control] * len(special) + [normal] * len(words))
    writer.add_bos_token_id(1)
    writer.add_sep_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_mask_token_id(4)
    writer.add_token_type_count(num_types)


def write_gguf(path: Path, model: Any, pooling_type: int, num_skipped: int = 0) -> Path:
    """Write transformers' model as llama.cpp's converter does; its pooler only with a classifier.

    num_skipped: rows of positions that are for padding.
    """
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(SIZES["max_position_embeddings"] - num_skipped)
    writer.add_embedding_length(SIZES["hidden_size"])
    writer.add_feed_forward_length(SIZES["intermediate_size"])
    writer.add_block_count(SIZES["num_hidden_layers"])
    writer.add_head_count(SIZES["num_attention_heads"])
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    add_vocabulary(writer, model.config.type_vocab_size)
    writer.add_uint32("bert.pooling_type", pooling_type)
    if pooling_type == RANK:
        writer.add_classifier_output_labels(["LABEL_0"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, SIZES["num_hidden_layers"])
    for name, tensor in model.state_dict().items():
        stem, _, kind = name.rpartition(".")
        if stem.startswith("pooler") or kind not in ("weight", "bias"):
            continue
        bare = stem.removeprefix("bert.").removeprefix("roberta.")
        theirs = HEADS.get(stem) or names.get_name(bare)
        assert theirs is not None, name
        values = tensor.numpy()
        if theirs == "position_embd":
            values = values[num_skipped:]
        writer.add_tensor(f"{theirs}.{kind}", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


TURNING = {
    "nomic_bert": ("nomic-bert", gguf.MODEL_ARCH.NOMIC_BERT),
    "jina_embeddings_v3": ("jina-bert-v3", gguf.MODEL_ARCH.JINA_BERT_V3),
    "modernbert": ("modern-bert", gguf.MODEL_ARCH.MODERN_BERT),
    "eurobert": ("eurobert", gguf.MODEL_ARCH.EUROBERT),
}


def write_turning(path: Path, model: Any, name: str, pooling_type: int = MEAN) -> Path:
    """Write an encoder that turns as llama.cpp's converter does."""
    architecture, known = TURNING[name]
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_causal_attention(False)
    writer.add_uint32(f"{architecture}.pooling_type", pooling_type)
    if pooling_type == RANK:
        writer.add_classifier_output_labels(["LABEL_0"])
    if name == "modernbert":
        add_windows(writer, config)
    else:
        if name == "eurobert":
            writer.add_layer_norm_rms_eps(config.rms_norm_eps)
            writer.add_head_count_kv(config.num_key_value_heads)
            writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
        else:
            writer.add_layer_norm_eps(config.layer_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    add_vocabulary(writer, getattr(config, "type_vocab_size", 1))
    names = gguf.get_tensor_name_map(known, config.num_hidden_layers)
    for tensor_name, tensor in safetensors.torch.load_file(
        path.parent / "model.safetensors"
    ).items():
        stem, _, kind = tensor_name.removeprefix("model.").removeprefix("roberta.").rpartition(".")
        if stem.startswith("pooler"):
            continue
        theirs = HEADS.get(stem) or names.get_name(stem)
        assert theirs is not None, tensor_name
        # One row of types is written as a vector, and read as llama.cpp reads it.
        writer.add_tensor(f"{theirs}.{kind}", tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_windows(writer: gguf.GGUFWriter, config: Any) -> None:
    """Write what ModernBERT's layers see, and how they turn."""
    writer.add_layer_norm_eps(config.norm_eps)
    writer.add_sliding_window(config.local_attention)
    writer.add_sliding_window_pattern(3)
    writer.add_rope_freq_base(config.rope_parameters["full_attention"]["rope_theta"])
    writer.add_rope_freq_base_swa(config.rope_parameters["sliding_attention"]["rope_theta"])
    writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    writer.add_string("modern-bert.hidden_activation", config.hidden_activation)
    writer.add_vocab_size(config.vocab_size)


def write_unbiased_modernbert(directory: Path) -> Any:
    """Write a ModernBERT that scores by the mean; llama.cpp knows of no bias in its head."""
    model = write_model(directory, CROSS_ENCODERS["modernbert_mean"])
    tensors = safetensors.torch.load_file(directory / "model.safetensors")
    del tensors["head.dense.bias"]
    safetensors.torch.save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    values = json.loads((directory / "config.json").read_text()) | {"classifier_bias": False}
    (directory / "config.json").write_text(json.dumps(values))
    return model
