"""What a directory's files say that its model is served for."""

import json
from pathlib import Path
from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.load import load_config
from backend.config.pooling import Dense, Pooling
from tests.backend.models.encoder_models import CASES, CROSS_ENCODERS, write_model


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_model(tmp_path, CASES["bert"])
    return tmp_path


def add_modules(directory: Path, *modules: tuple[str, dict[str, Any]]) -> None:
    """Write modules.json: a Transformer, then modules with the config of each."""
    listed = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
    for number, (kind, config) in enumerate(modules, 1):
        folder = f"{number}_{kind}"
        (directory / folder).mkdir(exist_ok=True)
        (directory / folder / "config.json").write_text(json.dumps(config))
        listed.append({"type": f"sentence_transformers.models.{kind}", "path": folder})
    (directory / "modules.json").write_text(json.dumps(listed))


def edit(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(values | changes))


def pooling_of(directory: Path) -> Pooling:
    pooling = load_config(directory).pooling
    assert pooling is not None
    return pooling


def test_encoder_without_modules_gives_the_mean_and_says_so(directory: Path) -> None:
    config = load_config(directory)
    assert config.pooling == Pooling("embed", ("mean",))
    assert config.notes == ("no modules.json: vectors are the mean of all tokens",)
    assert config.runs_whole and not config.has_head and config.max_model_len == 64


@pytest.mark.parametrize(
    ("config", "modes"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_mean_tokens": True, "word_embedding_dimension": 96}, ("mean",)),
        ({"pooling_mode_lasttoken": True, "pooling_mode_cls_token": True}, ("cls", "lasttoken")),
        ({}, ("mean",)),
        ({"pooling_mode": "weightedmean"}, ("weightedmean",)),
        ({"pooling_mode": ["max", "cls"]}, ("max", "cls")),
    ],
)
def test_pooling_modes_of_old_and_new_files(
    directory: Path, config: dict[str, Any], modes: tuple[str, ...]
) -> None:
    add_modules(directory, ("Pooling", config))
    assert pooling_of(directory) == Pooling("embed", modes)  # type: ignore[arg-type]


def test_dense_and_normalize_follow(directory: Path) -> None:
    dense = {"in_features": 96, "out_features": 7, "bias": False}
    dense["activation_function"] = "torch.nn.modules.linear.Identity"  # type: ignore[assignment]
    add_modules(directory, ("Pooling", {}), ("Dense", dense), ("Normalize", {}))
    layer = Dense("2_Dense", 96, 7, has_bias=False, activation="identity")
    pooling = pooling_of(directory)
    assert pooling == Pooling("embed", ("mean",), (layer,), is_normalized=True)
    assert pooling.width(96) == 7


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([("Normalize", {})], "Normalize is not supported in that place"),
        ([("Pooling", {}), ("CNN", {})], "CNN is not supported"),
        ([], "names no Pooling"),
        ([("Pooling", {"include_prompt": False})], "include_prompt is false"),
        ([("Pooling", {"pooling_mode": "median"})], "pooling_mode 'median' is not supported"),
        (
            [("Pooling", {}), ("Dense", {"in_features": 9, "out_features": 7})],
            "in_features is 9, not 96",
        ),
        (
            [
                ("Pooling", {}),
                ("Dense", {"in_features": 96, "out_features": 7, "use_residual": True}),
            ],
            "only a plain layer",
        ),
    ],
)
def test_what_is_not_known_is_refused(
    directory: Path, modules: list[tuple[str, dict[str, Any]]], message: str
) -> None:
    add_modules(directory, *modules)
    with pytest.raises(ModelError, match=message):
        load_config(directory)


def test_module_s_folder_is_beside_modules_json(directory: Path) -> None:
    add_modules(directory, ("Pooling", {}))
    text = (directory / "modules.json").read_text().replace("1_Pooling", "../1_Pooling")
    (directory / "modules.json").write_text(text)
    with pytest.raises(ModelError, match="only folders beside it are read"):
        load_config(directory)


def test_length_is_that_of_sentence_transformers(directory: Path) -> None:
    edit(directory / "tokenizer_config.json", model_max_length=50)
    assert load_config(directory).max_model_len == 50
    edit(directory / "sentence_bert_config.json", max_seq_length=20)
    assert load_config(directory).max_model_len == 20
    edit(directory / "sentence_bert_config.json", max_seq_length=2000)
    assert load_config(directory).max_model_len == 64


@pytest.mark.parametrize(
    ("fields", "is_raw"),
    [
        ({}, False),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, True),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, True),
        ({"sentence_transformers": {"activation_fn": "torch.nn.Sigmoid"}}, False),
    ],
)
def test_cross_encoder_s_activation(tmp_path: Path, fields: dict[str, Any], is_raw: bool) -> None:
    write_model(tmp_path, CROSS_ENCODERS["roberta"])
    edit(tmp_path / "config.json", **fields)
    assert pooling_of(tmp_path) == Pooling("rerank", ("cls",), is_raw=is_raw)


@pytest.mark.parametrize(("name", "skipped"), [("qwen3", 5), ("bert", None)])
def test_decoder_s_classifier_skips_padding(tmp_path: Path, name: str, skipped: int | None) -> None:
    """As transformers 5.23 does, whatever its mask of attention shows."""
    write_model(tmp_path, CROSS_ENCODERS[name])
    edit(tmp_path / "config.json", pad_token_id=5)
    assert pooling_of(tmp_path).skipped_id == skipped


def test_newer_cross_encoders_tell_the_activation_elsewhere(tmp_path: Path) -> None:
    write_model(tmp_path, CROSS_ENCODERS["bert"])
    name = "torch.nn.modules.linear.Identity"
    edit(tmp_path / "config_sentence_transformers.json", activation_fn=name)
    assert pooling_of(tmp_path).is_raw


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id2label": {"0": "no", "1": "yes"}}, "it has 2 labels"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.Tanh"}}, "activation_fn"),
    ],
)
def test_other_classifiers_are_refused(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    write_model(tmp_path, CROSS_ENCODERS["bert"])
    edit(tmp_path / "config.json", **fields)
    with pytest.raises(ModelError, match=message):
        load_config(tmp_path)


@pytest.mark.parametrize("task", ["generate", "rerank"])
def test_encoder_does_only_what_it_can(directory: Path, task: Any) -> None:
    with pytest.raises(ModelError, match=f"--task {task}: this bert model is one to embed"):
        load_config(directory, task=task)


def test_fields_that_would_change_an_encoder_are_refused(directory: Path) -> None:
    edit(directory / "config.json", position_embedding_type="relative_key")
    with pytest.raises(ModelError, match="only learned positions are supported"):
        load_config(directory)
