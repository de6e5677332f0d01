"""Flags of other servers are answered with what they are here."""

from pathlib import Path

import pytest

from gateway import cli
from gateway.foreign_settings import _NEEDLESS, _SAME, MODEL
from gateway.options import SettingsError
from gateway.setting_sources import load
from gateway.settings import setting_options

NAMES = {option.name for table in setting_options().values() for option in table}


def test_what_it_leads_to_is_there_and_what_it_leads_from_is_not() -> None:
    assert set(_SAME.values()) <= NAMES | {MODEL}
    assert not (_SAME.keys() | _NEEDLESS.keys()) & (NAMES - {"model"})  # it has no flag


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--ctx-size", "4096"], "no flag --ctx-size; here it is --max-model-len"),
        (["-c", "4096"], "no flag -c; here it is --max-model-len"),
        (["m.gguf", "-ngl", "99"], "no flag -ngl; here it is --device"),
        (["--tensor-parallel-size=2"], "no flag --tensor-parallel-size; here it is --tp"),
        (["--tensor_parallel_size", "2"], "here it is --tp"),
        (["--gpu-memory-utilization", "0.9"], "here it is --kv-cache-bytes"),
        (["-hf", "org/name"], "no flag -hf; here it is MODEL, the first argument"),
        (["--model-path", "x"], "here it is MODEL"),
        (["--model", "x"], "no flag --model; here it is MODEL, the first argument"),
        (["--no-enable-prefix-caching"], "here it is --prefix-caching"),
        (["--trust-remote-code"], "no flag --trust-remote-code: no code of a model is ever run"),
        (["--tool-call-parser", "hermes"], "here it is --tool-notation"),
        (["--reasoning-parser", "qwen3"], "here it is --reasoning-notation"),
        (["--enable-auto-tool-choice"], "--enable-auto-tool-choice: calls are always found"),
        (["--jinja"], "the model's own chat template"),
        (["--allowed-origins", "*"], "here it is --cors-origins"),
        (["--max-num-seq", "1"], "did you mean --max-num-seqs?"),
        (["--nothing-like-it", "1"], "there is no flag --nothing-like-it"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "config"])
def test_flag_is_suggested_by_meaning(
    command: str, argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main([command, *argv])
    assert raised.value.code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("unisono: ") and words in first.replace("a model's", "the model's")
    assert second == f"see unisono {command} --help"


def test_variables_and_keys_of_the_file_are_too(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"not a setting; here it is UNISONO_MAX_MODEL_LEN$"):
        load({}, {"UNISONO_CTX_SIZE": "1"}, None)
    path = tmp_path / "u.toml"
    path.write_text("[engine]\ntensor_parallel_size = 2\n")
    with pytest.raises(SettingsError, match=r"not a setting; here it is tp$"):
        load({}, {}, path)


def test_size_in_a_file_is_written_in_quotes(tmp_path: Path) -> None:
    path = tmp_path / "u.toml"
    path.write_text('[engine]\nkv_cache_bytes = "2GB"\n[server]\nmax_body_bytes = 2048\n')
    settings = load({}, {"UNISONO_MAX_MODEL_LEN": "4K"}, path).settings
    assert settings.engine.kv_cache_bytes == 2 * 10**9
    assert (settings.server.max_body_bytes, settings.engine.max_model_len) == (2048, 4096)
