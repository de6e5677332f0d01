"""Encoders against transformers' float32 forward, alone and in a batch, and on several ranks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.config.errors import ModelError
from backend.config.load import load_config
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
# Of the tiny models below, whose random weights turn more than trained ones do.
LEAST_COSINE = 0.999


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


@pytest.mark.parametrize("head", ["MaskedLM", "PreTraining"])
def test_heads_of_pretraining_are_left_out(head: str, tmp_path: Path) -> None:
    model = write_model(tmp_path, EncoderCase(f"BertFor{head}")).bert
    expected = torch.stack([states_of(model, text).mean(0) for text in TEXTS])
    assert np.abs(vectors_of(engine_of(tmp_path), TEXTS) - expected.numpy()).max() < TOLERANCE


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_means_at_bf16_are_turned_little(case: EncoderCase, tmp_path: Path) -> None:
    """As servers compute by default, by our own kernels where the processor has them."""
    model = write_model(tmp_path, case)
    expected = torch.stack([states_of(model, text).mean(0) for text in TEXTS])
    engine = engine_of(tmp_path, dtype="bfloat16")
    found = torch.from_numpy(vectors_of(engine, TEXTS))
    assert torch.cosine_similarity(found, expected, dim=1).min() > LEAST_COSINE


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_plan_predicts_the_weights_that_are_held(case: EncoderCase, tmp_path: Path) -> None:
    """Of config.json alone, within 5 % of what is really allocated; there is no cache."""
    write_model(tmp_path, case)
    predicted, _ = predicted_bytes(tmp_path, 1, "float32", "torch")
    assert predicted == pytest.approx(engine_of(tmp_path).model.weight_bytes, rel=0.05)


@pytest.mark.parametrize(
    "name", sorted(CASES.keys() - {"bert_relu", "gte_no_types", "modernbert_biases"})
)
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_compute_the_same(name: str, size: int, tmp_path: Path) -> None:
    write_model(tmp_path, CASES[name])
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


@pytest.mark.parametrize("case", CROSS_ENCODERS.values(), ids=CROSS_ENCODERS)
def test_scores_at_bf16_are_close(case: EncoderCase, tmp_path: Path) -> None:
    """As servers compute by default: what a classifier reads is float32 all the same."""
    model = write_model(tmp_path, case)
    with torch.inference_mode():
        logits = [model(torch.tensor([text])).logits.item() for text in TEXTS]
    found = vectors_of(engine_of(tmp_path, dtype="bfloat16", kernels="auto"), TEXTS)
    assert np.abs(found[:, 0] - torch.sigmoid(torch.tensor(logits)).numpy()).max() < 0.02


@pytest.mark.parametrize("name", ["bert", "nomic_bert"])
def test_second_text_of_a_pair_has_its_own_type(name: str, tmp_path: Path) -> None:
    model = write_model(tmp_path, CROSS_ENCODERS[name])
    pair, second = TEXTS[2], 15
    types = torch.tensor([[0] * second + [1] * (len(pair) - second)])
    with torch.inference_mode():
        logit = model(torch.tensor([pair]), token_type_ids=types).logits[0, 0]
    engine = engine_of(tmp_path)
    found = vectors_of(engine, [TEXTS[0], pair], segments=[0, second])
    assert abs(found[1, 0] - torch.sigmoid(logit).item()) < TOLERANCE
    assert abs(found[1, 0] - vectors_of(engine, [pair])[0, 0]) > 10 * TOLERANCE


# What the files of the models' own authors say, and in the place of which fields of transformers'.
OLD_FILES: dict[str, tuple[dict[str, Any], str]] = {
    "nomic_bert": (
        {
            "n_embd": 96, "n_head": 6, "n_inner": 96, "n_layer": 2, "n_positions": 8192,
            "max_trained_positions": 64, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0,
            "rotary_scaling_factor": None, "layer_norm_epsilon": 1e-12, "prenorm": False,
            "activation_function": "swiglu", "qkv_proj_bias": False, "causal": False,
            "use_rms_norm": False, "resid_pdrop": 0.0,
        },
        "hidden_size num_attention_heads intermediate_size num_hidden_layers head_dim hidden_act"
        " max_position_embeddings rope_parameters layer_norm_eps",
    ),
    "modernbert": (
        {
            "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0,
            "local_rope_theta": 10000.0, "position_embedding_type": "absolute",
            "reference_compile": None, "layer_norm_eps": 1e-5,
        },
        "layer_types rope_parameters",
    ),
}  # fmt: skip


def _rewrite(directory: Path, more: dict[str, Any], without: str = "") -> None:
    path = directory / "config.json"
    fields = json.loads(path.read_text()) | more
    path.write_text(json.dumps({n: v for n, v in fields.items() if n not in without.split()}))


@pytest.mark.parametrize("name", OLD_FILES)
def test_files_of_their_authors_say_the_same(name: str, tmp_path: Path) -> None:
    write_model(tmp_path, CASES[name])
    engine = engine_of(tmp_path)
    expected = vectors_of(engine, TEXTS)
    _rewrite(tmp_path, *OLD_FILES[name])
    again = engine_of(tmp_path)
    assert again.max_model_len == engine.max_model_len
    assert np.array_equal(vectors_of(again, TEXTS), expected)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("nomic_bert", "rotary_scaling_factor", 2),
        ("nomic_bert", "qkv_proj_bias", True),
        ("modernbert", "hidden_activation", "mish"),
        ("modernbert", "layer_types", ["full_attention", "linear_attention"] * 2),
        ("modernbert", "rope_parameters", {"rope_theta": 10.0}),
        ("gte", "logn_attention_scale", True),
        ("jina_embeddings_v3", "lora_adaptations", ["retrieval.query"]),
        ("eurobert", "sliding_window", 4),
    ],
)
def test_what_is_not_computed_is_refused(
    name: str, field: str, value: object, tmp_path: Path
) -> None:
    write_model(tmp_path, CASES[name])
    _rewrite(tmp_path, {field: value})
    with pytest.raises(ModelError, match=field):
        load_config(tmp_path)


@pytest.mark.parametrize("name", ["qwen3", "modernbert"])
def test_classifiers_with_labels_are_refused(name: str, tmp_path: Path) -> None:
    write_model(tmp_path, CROSS_ENCODERS[name])
    _rewrite(tmp_path, {"id2label": {"0": "bad", "1": "good"}})
    with pytest.raises(ModelError, match="2 labels"):
        load_config(tmp_path)


def test_model_that_scores_writes_nothing(tmp_path: Path) -> None:
    write_model(tmp_path, CROSS_ENCODERS["llama"])
    with pytest.raises(ModelError, match="one to rerank, and cannot generate"):
        load_config(tmp_path, task="generate")
