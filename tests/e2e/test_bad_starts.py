"""A server that cannot start says why in a few lines, and leaves nothing behind."""

import socket
from pathlib import Path

import gguf
import pytest

from tests.backend.factories import write_tiny_gguf, write_tiny_llama
from tests.e2e.server import refused_start

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny")


def test_port_in_use_is_named(tiny: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = refused_start(tiny, "--port", port)
    assert f"port {port}" in words and "in use" in words


def test_missing_model_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.gguf"
    assert str(missing) in refused_start(missing)


def test_directory_without_weights_is_refused(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "model")
    (model / "model.safetensors").unlink()
    assert "safetensors" in refused_start(model)


@pytest.mark.parametrize("kind", ["gguf", "safetensors"])
def test_truncated_model_is_named(tiny: Path, tmp_path: Path, kind: str) -> None:
    if kind == "gguf":
        model = file = write_tiny_gguf(tmp_path / "model.gguf", tiny)
    else:
        model = write_tiny_llama(tmp_path / "model")
        file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    words = refused_start(model)
    assert file.name in words


def test_unsupported_architecture_is_named_with_others(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    words = refused_start(path)
    assert "mamba" in words and "llama" in words


def test_tp_above_kv_heads_is_refused_with_the_limit(tiny: Path) -> None:
    words = refused_start(tiny, "--tp", "5")
    assert "--tp 5" in words and "1 to 4" in words


def test_context_beyond_the_models_is_refused_with_the_limit(tiny: Path) -> None:
    """It was cut to the model's without a word."""
    words = refused_start(tiny, "--max-model-len", "1000000")
    assert "--max-model-len 1000000" in words and "512 tokens" in words


def test_too_little_memory_says_how_much_is_needed(tiny: Path) -> None:
    words = refused_start(tiny, "--kv-cache-bytes", "1000", "--dtype", "float32")
    # 2 (keys and values) x 2 layers x 4 heads x 8 numbers x 4 bytes x 32 tokens
    assert "16,384 bytes" in words and "1,000" in words


def test_unknown_flag_is_refused_with_the_nearest_one() -> None:
    words = refused_start("--max-num-seq", "4")
    assert "--max-num-seq" in words and "--max-num-seqs" in words


def test_value_out_of_range_is_refused() -> None:
    assert "--tp" in refused_start("--tp", "0")


def test_cache_beyond_all_memory_is_refused_untaken(tiny: Path) -> None:
    words = refused_start(tiny, "--kv-cache-bytes", str(10**15))
    assert "1,000,000.0 GB" in words and "leave it out" in words


def test_missing_file_of_keys_says_how_to_make_one(tiny: Path, tmp_path: Path) -> None:
    assert f"unisono keys new --file {tmp_path}/keys.toml" in refused_start(
        tiny, "--api-keys", tmp_path / "keys.toml"
    )


def test_template_that_is_nowhere_is_refused(tiny: Path) -> None:
    words = refused_start(tiny, "--chat-template", "nowhere.jinja")
    assert "--chat-template nowhere.jinja: no such file" in words


def test_sampling_that_no_request_could_have_is_refused(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "model")
    (model / "generation_config.json").write_text('{"temperature": 9}')
    words = refused_start(model)
    assert "generation_config.json: temperature is 9" in words
    assert "--generation-config none" in words


@pytest.mark.parametrize("flag", ["--tool-notation", "--reasoning-notation"])
def test_notation_that_means_nothing_is_told_by_line(tiny: Path, tmp_path: Path, flag: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[reasoning]\nopen = "<a>"\nclose = ""\n')
    words = refused_start(tiny, flag, file)
    assert f"{flag} {file}, line 3: 'close'" in words
