"""What a header or config.json alone say of weights, beside what the opened files do."""

import json
from pathlib import Path
from typing import Any

import pytest

from backend.config.huggingface import config_of_fields
from backend.config.load import load_config
from backend.config.tensors import EMBEDDING, tensors_of
from backend.placement.known_weights import DescribedWeights, HeaderWeights
from backend.weights.checkpoint import open_checkpoint
from tests.backend.factories import write_mixed_gguf
from tests.backend.quantized_layouts import LAYOUTS, write_quantized_llama

Q_PROJ = "model.layers.0.self_attn.q_proj.weight"


def test_header_says_what_the_opened_file_does(tmp_path: Path) -> None:
    path = write_mixed_gguf(tmp_path)
    config = load_config(path)
    known, opened = HeaderWeights(path, config), open_checkpoint(path, config)
    for name in tensors_of(config):
        for cols in (slice(None), slice(0, 64), slice(16, 64)):
            if len(opened.shape(name)) == 2:
                assert known.weight_format(name, cols) is opened.weight_format(name, cols)
        assert known.stored_type(name) == opened.stored_type(name)
    opened.close()


@pytest.mark.parametrize("layout", ["awq", "gptq", "int-quantized", "fp8"])
def test_config_says_what_the_opened_directory_does(tmp_path: Path, layout: str) -> None:
    directory = write_quantized_llama(tmp_path, LAYOUTS[layout]).directory
    fields = json.loads((directory / "config.json").read_text())
    config = load_config(directory)
    known, opened = DescribedWeights(fields, config), open_checkpoint(directory, config)
    for name in (Q_PROJ, EMBEDDING, "model.layers.0.mlp.down_proj.weight", "model.norm.weight"):
        assert known.weight_format(name) is opened.weight_format(name), name
    opened.close()


def test_config_alone_makes_the_configuration_of_the_directory(tmp_path: Path) -> None:
    directory = write_quantized_llama(tmp_path, LAYOUTS["awq"]).directory
    fields: dict[str, Any] = json.loads((directory / "config.json").read_text())
    whole = load_config(directory)
    alone = config_of_fields(fields, whole.name)
    assert alone.spec == whole.spec
    assert tensors_of(alone) == tensors_of(whole)
    assert alone.stored_dtype == "AWQ int4"
