"""Rules of turning GGUF metadata into a ModelConfig."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest

from backend.config.errors import ModelError
from backend.config.gguf import model_name
from backend.config.load import load_config
from backend.config.rope import Rope, RopeScaling
from gateway.hub import default_model
from tests.backend.factories import rope_of, tiny_config, write_tiny_gguf, write_tiny_llama


def write_gguf(path: Path, changed: dict[str, Any] | None = None, arch: str = "llama") -> Path:
    """Write a file whose metadata is a tiny llama's but for `changed`; None leaves a key out."""
    keys: dict[str, Any] = {
        "context_length": 512,
        "embedding_length": 64,
        "feed_forward_length": 160,
        "block_count": 2,
        "attention.head_count": 8,
        "attention.head_count_kv": 4,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    writer = gguf.GGUFWriter(path, arch)
    for key, value in (keys | (changed or {})).items():
        key = key if key.startswith("tokenizer.") else f"{arch}.{key}"
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif value is not None:
            writer.add_uint32(key, value)
    writer.add_tensor("token_embd.weight", np.zeros((320, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_converted_model_keeps_its_configuration(tmp_path: Path, tie: bool, bias: bool) -> None:
    directory = write_tiny_llama(tmp_path / "tiny", tie=tie, bias=bias)
    config = load_config(write_tiny_gguf(tmp_path / "tiny.F32.gguf", directory))
    expected = load_config(directory)
    # Numbers are stored in 32 bits, heads' rows side by side.
    assert config.spec.norm.eps == pytest.approx(expected.spec.norm.eps, rel=1e-6)
    assert rope_of(config) == msgspec.structs.replace(rope_of(expected), is_interleaved=True)
    assert [layer.mlp for layer in config.spec.layers] == [
        tiny.mlp for tiny in expected.spec.layers
    ]
    # The file does not list its end tokens; those that are spelled as ends are found.
    assert config.eos_token_ids == (2, 0)
    changes = {"spec": expected.spec, "eos_token_ids": expected.eos_token_ids}
    assert msgspec.structs.replace(config, **changes) == expected


@pytest.mark.parametrize(
    "scaling",
    [RopeScaling("linear", 4.0), RopeScaling("llama3", 8.0, 1.0, 4.0, 128)],
)
def test_converted_model_keeps_its_rotary_frequencies(tmp_path: Path, scaling: RopeScaling) -> None:
    directory = write_tiny_llama(tmp_path / "tiny", rope_scaling=scaling)
    config = load_config(write_tiny_gguf(tmp_path / "tiny.gguf", directory))
    expected = rope_of(load_config(directory)).inv_freq(512)
    assert rope_of(config).inv_freq(512) == pytest.approx(expected, rel=1e-6)


def test_default_model_is_described_by_its_file() -> None:
    config = load_config(default_model())
    assert config.name == "SmolLM2-135M-Instruct"
    assert (config.vocab_size, config.hidden_size, config.intermediate_size) == (49152, 576, 1536)
    assert (config.num_layers, config.num_heads, config.num_kv_heads) == (30, 9, 3)
    assert (config.head_dim, config.max_model_len, rope_of(config).theta) == (64, 8192, 100000.0)
    assert (config.eos_token_ids, config.bos_token_id) == ((2, 0, 4), 1)
    assert (config.tie_word_embeddings, config.stored_dtype) == (True, "Q4_1")


def test_reading_a_configuration_loads_no_torch(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    code = (
        "import sys; from pathlib import Path; from backend.config.load import load_config;"
        "load_config(Path(sys.argv[1])); import backend.config.huggingface;"
        "sys.exit(bool({'gguf', 'numpy', 'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 0


@pytest.mark.parametrize(
    ("changed", "field", "expected"),
    [
        ({}, "head_dim", 8),
        ({"attention.key_length": 16, "attention.value_length": 16}, "head_dim", 16),
        ({"attention.head_count_kv": None}, "num_kv_heads", 8),
        ({"attention.head_count_kv": [2, 2]}, "num_kv_heads", 2),
        ({"tokenizer.ggml.eos_token_id": 2}, "eos_token_ids", (2,)),
        (
            {"tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.eot_token_id": 7},
            "eos_token_ids",
            (2, 7),
        ),
        ({"tokenizer.ggml.bos_token_id": 2**32 - 1}, "bos_token_id", None),
    ],
)
def test_key_becomes_its_field(
    tmp_path: Path, changed: dict[str, Any], field: str, expected: object
) -> None:
    assert getattr(load_config(write_gguf(tmp_path / "m.gguf", changed)), field) == expected


@pytest.mark.parametrize(
    ("changed", "rope"),
    [
        ({}, Rope(8, 10000.0)),
        ({"rope.freq_base": 500000.0}, Rope(8, 500000.0)),
        ({"rope.dimension_count": 4}, Rope(4)),
        ({"rope.scale_linear": 2.0}, Rope(8, scaling=RopeScaling("linear", 2.0))),
        ({"rope.scaling.type": "none"}, Rope(8)),
    ],
)
def test_rotary_keys_become_the_rope(tmp_path: Path, changed: dict[str, Any], rope: Rope) -> None:
    config = load_config(write_gguf(tmp_path / "m.gguf", changed))
    assert rope_of(config) == msgspec.structs.replace(rope, is_interleaved=True)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"attention.alibi_bias_max": 8.0}, "llama.attention.alibi_bias_max is not known for"),
        ({"attention.value_length": 16}, "llama.attention.value_length is 16"),
        ({"rope.scaling.type": "dynamic"}, "rope.scaling.type 'dynamic' is not supported"),
        ({"block_count": None}, "llama.block_count is missing"),
        ({"block_count": "two"}, "llama.block_count is 'two', not an integer"),
        ({"block_count": 2.5}, "llama.block_count is 2.5, not an integer"),
        ({"attention.head_count_kv": [4, 2]}, "head_count_kv is [4, 2], not an integer"),
        ({"attention.head_count": 0}, "llama.attention.head_count must be above 0"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    path = write_gguf(tmp_path / "m.gguf", changed)
    with pytest.raises(ModelError) as caught:
        load_config(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_another_architecture_is_named_beside_the_supported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'mamba' is not supported.\nSupported.*: llama"):
        load_config(write_gguf(tmp_path / "m.gguf", arch="mamba"))


def test_file_that_only_holds_a_vocabulary_is_refused(tmp_path: Path) -> None:
    directory = write_tiny_llama(tmp_path / "tiny")
    path = write_tiny_gguf(tmp_path / "m.gguf", directory)
    path.write_bytes(path.read_bytes().replace(b"token_embd", b"token_none"))
    with pytest.raises(ModelError, match=r"has no tensor 'token_embd\.weight'"):
        load_config(path)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct"),
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Llama-3.2-1B-Instruct"),
        ("Llama-3.1-8B-IQ4_XS-00001-of-00003.gguf", "Llama-3.1-8B"),
        ("tiny.bf16.gguf", "tiny"),
        ("llama-2-7b.fp16.gguf", "llama-2-7b"),
        ("Qwerty-7B.gguf", "Qwerty-7B"),
        ("model-v1.5.gguf", "model-v1.5"),
    ],
)
def test_name_is_the_files_without_its_quantisation(file: str, name: str) -> None:
    assert model_name(Path(file)) == name


def test_gguf_file_needs_no_suffix(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    blob = tmp_path / "sha256-0123"
    shutil.copy(path, blob)
    assert load_config(blob).vocab_size == tiny_config().vocab_size
