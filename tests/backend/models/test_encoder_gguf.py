"""Encoders' GGUF files, by llama.cpp's names and keys, against the directory they are of."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.torch
import torch

from backend.config.errors import ModelError
from backend.config.load import load_config
from tests.backend.models.encoder_models import (
    CASES,
    CROSS_ENCODERS,
    SIZES,
    TEXTS,
    EncoderCase,
    engine_of,
    vectors_of,
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


@pytest.mark.parametrize(("name", "num_skipped"), [("bert", 0), ("roberta", 2)])
def test_vectors_are_those_of_the_directory_made_unit_long(
    name: str, num_skipped: int, tmp_path: Path
) -> None:
    model = write_model(tmp_path, CASES[name])
    path = write_gguf(tmp_path / "tiny.gguf", model, MEAN, num_skipped)
    config = load_config(path)
    assert config.max_model_len == 64 - num_skipped
    expected = torch.nn.functional.normalize(torch.tensor(vectors_of(engine_of(tmp_path), TEXTS)))
    assert np.abs(vectors_of(engine_of(path), TEXTS) - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_scores_are_those_of_the_directory(name: str, tmp_path: Path) -> None:
    case: EncoderCase = CROSS_ENCODERS[name]
    model = write_model(tmp_path, case)
    path = write_gguf(tmp_path / "tiny.gguf", model, RANK, 0 if name == "bert" else 2)
    expected = vectors_of(engine_of(tmp_path), TEXTS)
    assert np.abs(vectors_of(engine_of(path), TEXTS) - expected).max() < 1e-5


TURNING = {
    "nomic_bert": ("nomic-bert", gguf.MODEL_ARCH.NOMIC_BERT),
    "jina_embeddings_v3": ("jina-bert-v3", gguf.MODEL_ARCH.JINA_BERT_V3),
    "modernbert": ("modern-bert", gguf.MODEL_ARCH.MODERN_BERT),
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
        writer.add_layer_norm_eps(config.layer_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        writer.add_token_type_count(config.type_vocab_size)
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


@pytest.mark.parametrize("name", TURNING)
def test_encoders_that_turn_have_the_directory_s_vectors(name: str, tmp_path: Path) -> None:
    model = write_model(tmp_path, CASES[name])
    path = write_turning(tmp_path / "tiny.gguf", model, name)
    found = vectors_of(engine_of(path), TEXTS)
    expected = torch.nn.functional.normalize(torch.tensor(vectors_of(engine_of(tmp_path), TEXTS)))
    assert np.abs(found - expected.numpy()).max() < 1e-5


def test_modernbert_scores_as_the_directory_does(tmp_path: Path) -> None:
    """Files that say nothing take the mean, as llama.cpp does."""
    model = write_model(tmp_path, CROSS_ENCODERS["modernbert_mean"])
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    # llama.cpp knows of no bias there.
    del tensors["head.dense.bias"]
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    values = json.loads((tmp_path / "config.json").read_text()) | {"classifier_bias": False}
    (tmp_path / "config.json").write_text(json.dumps(values))
    path = write_turning(tmp_path / "tiny.gguf", model, "modernbert", RANK)
    expected = vectors_of(engine_of(tmp_path), TEXTS)
    assert np.ptp(expected) > 0.05
    assert np.abs(vectors_of(engine_of(path), TEXTS) - expected).max() < 1e-5


def test_turning_encoder_with_a_classifier_scores(tmp_path: Path) -> None:
    """It was served for vectors, as if it had none."""
    model = write_model(tmp_path, CROSS_ENCODERS["jina_embeddings_v3"])
    path = write_turning(tmp_path / "tiny.gguf", model, "jina_embeddings_v3", RANK)
    expected = vectors_of(engine_of(tmp_path), TEXTS)
    assert np.abs(vectors_of(engine_of(path), TEXTS) - expected).max() < 1e-5


def test_classifier_of_several_labels_is_refused(tmp_path: Path) -> None:
    case = EncoderCase("BertForSequenceClassification", {"num_labels": 3})
    path = write_gguf(tmp_path / "tiny.gguf", write_model(tmp_path, case), RANK)
    with pytest.raises(ModelError, match="it has 3 labels: a classifier"):
        load_config(path)


@pytest.mark.parametrize("name", ["eurobert", "jina-bert-v2"])
def test_encoder_that_is_not_read_says_what_serves(name: str, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", name)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match=f"'{name}' is not read from GGUF files\ntake the direct"):
        load_config(tmp_path / "tiny.gguf")


def test_pooling_is_the_file_s(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", write_model(tmp_path, CASES["bert"]), CLS)
    pooling = load_config(path).pooling
    assert pooling is not None and pooling.modes == ("cls",) and pooling.is_normalized
    with pytest.raises(ModelError, match="--task generate: this bert model is one to embed"):
        load_config(path, task="generate")
