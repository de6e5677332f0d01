"""Files of both kinds say how large a model is, and in what bits it lies there."""

from pathlib import Path

import pytest

from backend.config.load import load_config
from gateway.model_facts import ModelFacts, facts_of
from tests.backend.factories import write_mixed_gguf, write_tiny_llama


def test_directory_is_counted_with_all_of_its_files(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path, tie=True)
    config = load_config(path)
    facts = facts_of(path, config, {"default": "{{ x }}"})
    assert (facts.family, facts.file_format, facts.template) == ("llama", "safetensors", "{{ x }}")
    [weights] = path.glob("*.safetensors")
    assert facts.num_bytes == weights.stat().st_size
    # All that is in the file is numbers, but for its header.
    assert 0.9 < facts.num_parameters * 4 / facts.num_bytes < 1
    assert facts.quantization == "F32"
    assert facts.sizes["block_count"] == len(config.spec.layers)


def test_gguf_file_is_counted_by_its_header(tmp_path: Path) -> None:
    path = write_mixed_gguf(tmp_path)
    facts = facts_of(path, load_config(path), {})
    assert (facts.file_format, facts.num_bytes) == ("gguf", path.stat().st_size)
    assert facts.quantization.startswith("Q")


def test_split_file_is_counted_with_all_of_its_parts(tmp_path: Path) -> None:
    config = load_config(write_mixed_gguf(tmp_path))
    for number in (1, 2):
        (tmp_path / f"m-0000{number}-of-00002.gguf").write_bytes(b"x" * number)
    assert facts_of(tmp_path / "m-00001-of-00002.gguf", config, {}).num_bytes == 3


def test_directory_without_weights_has_no_size(tmp_path: Path) -> None:
    whole = write_tiny_llama(tmp_path / "whole", tie=True)
    (tmp_path / "config.json").write_bytes((whole / "config.json").read_bytes())
    facts = facts_of(tmp_path, load_config(whole), {})
    assert facts.num_bytes == 0 and facts.num_parameters > 0


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, ""), (12, "12"), (4500, "4.5K"), (134_515_008, "134.52M"), (1_543_714_304, "1.5B")],
)
def test_numbers_of_parameters_are_short(number: int, words: str) -> None:
    assert ModelFacts(num_parameters=number).parameter_size == words
