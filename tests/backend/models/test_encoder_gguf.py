"""Encoders' GGUF files, by llama.cpp's names and keys, against the directory they are of."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from backend.config.errors import ModelError
from backend.config.load import load_config
from tests.backend.models.encoder_gguf import (
    CLS,
    MEAN,
    RANK,
    TURNING,
    write_gguf,
    write_turning,
    write_unbiased_modernbert,
)
from tests.backend.models.encoder_models import (
    CASES,
    CROSS_ENCODERS,
    TEXTS,
    EncoderCase,
    engine_of,
    vectors_of,
    write_model,
)


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


@pytest.mark.parametrize("name", TURNING)
def test_encoders_that_turn_have_the_directory_s_vectors(name: str, tmp_path: Path) -> None:
    model = write_model(tmp_path, CASES[name])
    path = write_turning(tmp_path / "tiny.gguf", model, name)
    found = vectors_of(engine_of(path), TEXTS)
    expected = torch.nn.functional.normalize(torch.tensor(vectors_of(engine_of(tmp_path), TEXTS)))
    assert np.abs(found - expected.numpy()).max() < 1e-5


def test_modernbert_scores_as_the_directory_does(tmp_path: Path) -> None:
    """Files that say nothing take the mean, as llama.cpp does."""
    model = write_unbiased_modernbert(tmp_path)
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


@pytest.mark.parametrize("name", ["nomic-bert-moe", "jina-bert-v2"])
def test_encoder_that_is_not_read_says_what_serves(name: str, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", name)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match=f"'{name}' is not read from GGUF files\nnor is"):
        load_config(tmp_path / "tiny.gguf")


def test_pooling_is_the_file_s(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", write_model(tmp_path, CASES["bert"]), CLS)
    pooling = load_config(path).pooling
    assert pooling is not None and pooling.modes == ("cls",) and pooling.is_normalized
    with pytest.raises(ModelError, match="--task generate: this bert model is one to embed"):
        load_config(path, task="generate")
