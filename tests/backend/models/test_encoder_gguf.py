"""BERT's GGUF files, by llama.cpp's names and keys, against the directory they are of."""

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
}


def write_turning(path: Path, model: Any, name: str) -> Path:
    """Write an encoder that turns as llama.cpp's converter does."""
    architecture, known = TURNING[name]
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(config.type_vocab_size)
    names = gguf.get_tensor_name_map(known, config.num_hidden_layers)
    for name, tensor in safetensors.torch.load_file(path.parent / "model.safetensors").items():
        stem, _, kind = name.rpartition(".")
        if stem.startswith("pooler"):
            continue
        theirs = names.get_name(stem)
        assert theirs is not None, name
        # One row of types is written as a vector, and read as llama.cpp reads it.
        writer.add_tensor(f"{theirs}.{kind}", tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("name", TURNING)
def test_encoders_that_turn_have_the_directory_s_vectors(name: str, tmp_path: Path) -> None:
    model = write_model(tmp_path, CASES[name])
    path = write_turning(tmp_path / "tiny.gguf", model, name)
    found = vectors_of(engine_of(path), TEXTS)
    expected = torch.nn.functional.normalize(torch.tensor(vectors_of(engine_of(tmp_path), TEXTS)))
    assert np.abs(found - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("name", ["modern-bert", "jina-bert-v2"])
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
