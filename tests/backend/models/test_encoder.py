"""Encoders against transformers' float32 forward, alone and in a batch, and on several ranks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.distributed.tensor_parallel import TensorParallel
from tests.backend.models.encoder_models import (
    CASES,
    CROSS_ENCODERS,
    TEXTS,
    EncoderCase,
    engine_of,
    vectors_of,
    write_model,
)
from tests.backend.models.predicted_memory import predicted_bytes
from tests.backend.tp_ranks import run_ranks

# Sums in another order; the states are of the size of 1.
TOLERANCE = 1e-4


def states_of(model: Any, token_ids: list[int], **inputs: torch.Tensor) -> torch.Tensor:
    """Return transformers' last hidden states of one text, [t, hidden]."""
    with torch.inference_mode():
        states: torch.Tensor = model(torch.tensor([token_ids]), **inputs).last_hidden_state[0]
    return states


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_means_of_a_batch_are_those_of_transformers(case: EncoderCase, tmp_path: Path) -> None:
    model = write_model(tmp_path, case)
    expected = torch.stack([states_of(model, text).mean(0) for text in TEXTS])
    found = vectors_of(engine_of(tmp_path), TEXTS)
    assert np.abs(found - expected.numpy()).max() < TOLERANCE


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_plan_predicts_the_weights_that_are_held(case: EncoderCase, tmp_path: Path) -> None:
    """Of config.json alone, within 5 % of what is really allocated; there is no cache."""
    write_model(tmp_path, case)
    predicted, _ = predicted_bytes(tmp_path, 1, "float32", "torch")
    assert predicted == pytest.approx(engine_of(tmp_path).model.weight_bytes, rel=0.05)


@pytest.mark.parametrize("case", [CASES["bert"], CASES["mpnet"]], ids=["bert", "mpnet"])
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_compute_the_same(case: EncoderCase, size: int, tmp_path: Path) -> None:
    write_model(tmp_path, case)
    alone = vectors_of(engine_of(tmp_path), TEXTS)

    def work(tp: TensorParallel) -> Any:
        return vectors_of(engine_of(tmp_path, tp), TEXTS)

    for found in run_ranks(size, work):
        assert np.abs(found - alone).max() < TOLERANCE


def test_text_has_the_same_vector_alone_and_in_a_batch(tmp_path: Path) -> None:
    """Attention is padded by a text's own length."""
    write_model(tmp_path, CASES["mpnet"])
    engine = engine_of(tmp_path)
    together = vectors_of(engine, TEXTS)
    for n, text in enumerate(TEXTS):
        assert np.allclose(vectors_of(engine, [text])[0], together[n], atol=1e-6)


def test_longest_text_has_a_position_for_each_token(tmp_path: Path) -> None:
    """RoBERTa's first two rows are for padding."""
    model = write_model(tmp_path, CASES["roberta"])
    engine = engine_of(tmp_path)
    assert engine.max_model_len == 62
    text = [5] * 62
    found = vectors_of(engine, [text])
    assert np.abs(found[0] - states_of(model, text).mean(0).numpy()).max() < TOLERANCE


@pytest.mark.parametrize("case", CROSS_ENCODERS.values(), ids=CROSS_ENCODERS)
def test_scores_are_the_sigmoid_of_the_logit(case: EncoderCase, tmp_path: Path) -> None:
    model = write_model(tmp_path, case)
    with torch.inference_mode():
        logits = [model(torch.tensor([text])).logits.item() for text in TEXTS]
    expected = torch.sigmoid(torch.tensor(logits))
    found = vectors_of(engine_of(tmp_path), TEXTS)
    assert found.shape == (len(TEXTS), 1)
    assert np.abs(found[:, 0] - expected.numpy()).max() < TOLERANCE


def test_second_text_of_a_pair_has_its_own_type(tmp_path: Path) -> None:
    model = write_model(tmp_path, CROSS_ENCODERS["bert"])
    pair, second = TEXTS[2], 15
    types = torch.tensor([[0] * second + [1] * (len(pair) - second)])
    with torch.inference_mode():
        logit = model(torch.tensor([pair]), token_type_ids=types).logits[0, 0]
    engine = engine_of(tmp_path)
    found = vectors_of(engine, [TEXTS[0], pair], segments=[0, second])
    assert abs(found[1, 0] - torch.sigmoid(logit).item()) < TOLERANCE
    assert abs(found[1, 0] - vectors_of(engine, [pair])[0, 0]) > 10 * TOLERANCE
