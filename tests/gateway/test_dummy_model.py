"""Directories of models without weights, and what is served from them."""

import json
from pathlib import Path

import pytest

from backend.config.load import load_config
from gateway.default_model import ModelNotFound
from gateway.dummy_model import dummy_directory
from tests.backend.factories import write_tiny_llama
from tests.backend.models.family_cases import TinyModel
from tests.backend.models.gpt_oss_cases import GPT_OSS
from tests.backend.models.tiny_engine import engine_of, run, scheduler_of, sequence


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_named_shape_has_its_fields_and_some_tokenizer() -> None:
    directory = dummy_directory("Llama-2-7b")
    assert directory == dummy_directory("meta-llama/Llama-2-7b-hf")
    config = load_config(directory)
    assert (config.num_layers, config.vocab_size, config.hidden_size) == (32, 32000, 4096)
    pieces = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
    assert len(pieces) == config.vocab_size
    assert not list(directory.parent.glob(".making*"))


@pytest.mark.parametrize("as_file", [True, False])
def test_config_of_a_directory_is_served_with_its_tokenizer(tmp_path: Path, as_file: bool) -> None:
    source = write_tiny_llama(tmp_path / "tiny", num_layers=1)
    (source / "model.safetensors").unlink()
    directory = dummy_directory(str(source / "config.json" if as_file else source))
    assert directory.name == "tiny"
    theirs = (source / "tokenizer.json").read_text()
    assert (directory / "tokenizer.json").read_text() == theirs
    engine = engine_of(directory)
    outputs = run(engine, scheduler_of(engine), [sequence(1, [5, 6, 7], temperature=0.0)])
    assert len(outputs[1]) == 16 and len(set(outputs[1])) > 1


def test_experts_in_mxfp4_are_served_without_weights(tmp_path: Path) -> None:
    tiny = TinyModel(GPT_OSS["gpt_oss"], tmp_path)
    fields = json.loads((tiny.path / "config.json").read_text())
    fields["quantization_config"] = {"quant_method": "mxfp4"}
    (tiny.path / "config.json").write_text(json.dumps(fields))
    engine = engine_of(dummy_directory(str(tiny.path / "config.json")), dtype="bfloat16")
    assert engine.config.stored_dtype == "MXFP4"
    outputs = run(engine, scheduler_of(engine), [sequence(1, [5, 6, 7], temperature=0.0)])
    assert len(outputs[1]) == 16 and len(set(outputs[1])) > 1


def test_unknown_shape_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelNotFound, match="did you mean Llama-2-7b"):
        dummy_directory("Llama-2-7")
    with pytest.raises(ModelNotFound, match="none named"):
        dummy_directory("")


def test_path_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"has no config\.json"):
        dummy_directory(str(tmp_path))
