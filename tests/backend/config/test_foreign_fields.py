"""What is known of a model without a family before its class is looked at."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.foreign import ModelImpl
from backend.config.load import load_config
from backend.config.model_config import ModelConfig
from tests.backend.factories import write_tiny_llama


def read(directory: Path, model_impl: ModelImpl = "auto", **fields: Any) -> ModelConfig:
    path = directory / "config.json"
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))
    return load_config(directory, model_impl)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "model")


def test_class_without_a_family_is_transformers(model: Path) -> None:
    config = read(model, architectures=["ApertusForCausalLM"], some_field=3, sliding_window=7)
    assert config.foreign is not None
    assert (config.family, config.foreign.architecture) == ("transformers", "ApertusForCausalLM")
    assert (config.num_layers, config.num_heads, config.num_kv_heads) == (2, 8, 4)
    assert "served by transformers' modelling code, class ApertusForCausalLM" in config.notes


def test_family_is_ours_unless_told_otherwise(model: Path) -> None:
    assert load_config(model).foreign is None
    assert load_config(model, "unisono").foreign is None
    assert load_config(model, "transformers").foreign is not None
    with pytest.raises(ModelError, match="not supported by our own decoder"):
        read(model, "unisono", architectures=["ApertusForCausalLM"])


def test_classes_call_their_sizes_by_other_names(model: Path) -> None:
    config = read(
        model, architectures=["OfNobodyForCausalLM"], n_embd=64, n_layer=3, n_head=4,
        n_positions=99, hidden_size=..., num_hidden_layers=..., num_attention_heads=...,
        num_key_value_heads=..., max_position_embeddings=..., head_dim=...,
    )  # fmt: skip
    assert (config.hidden_size, config.num_layers, config.num_heads) == (64, 3, 4)
    assert (config.num_kv_heads, config.head_dim, config.max_model_len) == (4, 16, 99)


def test_without_transformers_it_says_what_to_install(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.config.foreign_fields.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'unisono\[transformers\]'"):
        read(model, architectures=["ApertusForCausalLM"])


def test_encoder_decoders_are_refused(model: Path) -> None:
    with pytest.raises(ModelError, match="an encoder and a decoder"):
        read(model, architectures=["BartForCausalLM"], is_encoder_decoder=True)


def test_neither_torch_nor_transformers_is_loaded(model: Path) -> None:
    """By whoever is no rank."""
    read(model, architectures=["ApertusForCausalLM"])
    code = (
        "import sys; from pathlib import Path; from backend.config.load import load_config;"
        "assert load_config(Path(sys.argv[1])).foreign;"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(model)], check=True)
