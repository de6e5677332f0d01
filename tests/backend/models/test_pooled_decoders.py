"""Decoders that embed by their last token, and rerank by the logits of yes and no."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from backend.config.errors import ModelError
from backend.config.load import load_config
from backend.distributed.tensor_parallel import TensorParallel
from tests.backend.factories import write_tiny_gguf, write_tiny_llama
from tests.backend.models.encoder_models import engine_of, run_texts, scheduler_of, vectors_of
from tests.backend.tp_ranks import run_ranks

TEXTS = [[5, 6, 7, 8, 9], list(range(10, 60)), [70]]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny")


def last_states(model: Path) -> torch.Tensor:
    """Return transformers' hidden state of each text's last token, [N, hidden]."""
    reference = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32).model.eval()
    with torch.inference_mode():
        states = [reference(torch.tensor([text])).last_hidden_state[0, -1] for text in TEXTS]
    return torch.stack(states)


@pytest.mark.parametrize("budget", [64, 12])
def test_vector_is_the_last_token_s_also_after_chunks(model: Path, budget: int) -> None:
    found = vectors_of(engine_of(model, task="embed"), TEXTS, budget=budget)
    expected = torch.nn.functional.normalize(last_states(model)).numpy()
    assert np.abs(found - expected).max() < TOLERANCE


def test_prefix_is_computed_once(model: Path) -> None:
    engine = engine_of(model, task="embed")
    expected = vectors_of(engine, [TEXTS[1]])
    scheduler = scheduler_of(engine)
    first = run_texts(engine, scheduler, [TEXTS[1]])
    num_tokens = scheduler.num_prompt_tokens
    again = run_texts(engine, scheduler, [TEXTS[1]])
    assert scheduler.num_prompt_tokens - num_tokens < 8
    assert np.allclose(first, expected, atol=1e-6) and np.allclose(again, expected, atol=1e-5)


def test_model_without_a_head_embeds(model: Path, tmp_path: Path) -> None:
    """As Qwen3-Embedding and others are kept: no lm_head, names without "model."."""
    reference = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32).model
    reference.save_pretrained(tmp_path)
    config = load_config(tmp_path)
    assert config.pooling is not None and config.pooling.modes == ("lasttoken",)
    found = vectors_of(engine_of(tmp_path), TEXTS)
    expected = torch.nn.functional.normalize(last_states(model)).numpy()
    assert np.abs(found - expected).max() < TOLERANCE


def test_mean_of_a_decoder_takes_whole_texts(model: Path, tmp_path: Path) -> None:
    reference = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32).model.eval()
    reference.save_pretrained(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean"}))
    kinds = ("Transformer", ""), ("Pooling", "1_Pooling")
    modules = [{"type": f"sentence_transformers.models.{n}", "path": path} for n, path in kinds]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with torch.inference_mode():
        states = [reference(torch.tensor([text])).last_hidden_state[0] for text in TEXTS]
    expected = torch.stack([state.mean(0) for state in states]).numpy()
    found = vectors_of(engine_of(tmp_path), TEXTS)
    assert np.abs(found - expected).max() < TOLERANCE


@pytest.mark.parametrize("size", [1, 2])
def test_score_is_how_likely_yes_is_beside_no(model: Path, tmp_path: Path, size: int) -> None:
    """On two ranks the answers are in different parts of the vocabulary."""
    answers = {"yes": 20, "no": 300}
    for path in model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": answers}}))
    reference = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = torch.stack([reference(torch.tensor([text])).logits[0, -1] for text in TEXTS])
    expected = logits[:, list(answers.values())].softmax(1)[:, 0].numpy()

    def work(tp: TensorParallel) -> Any:
        return vectors_of(engine_of(tmp_path, tp, task="rerank"), TEXTS)

    for found in run_ranks(size, work):
        assert np.abs(found[:, 0] - expected).max() < TOLERANCE


def test_decoder_without_the_answers_does_not_rerank(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="yes and no are no tokens of this model"):
        load_config(model, task="rerank")


def test_gguf_embeds(model: Path, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", model)
    assert load_config(path).pooling is None
    found = vectors_of(engine_of(path, task="embed"), TEXTS)
    expected = torch.nn.functional.normalize(last_states(model)).numpy()
    assert np.abs(found - expected).max() < 1e-2
