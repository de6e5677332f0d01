"""What `unisono tune` refuses before it starts a server, and what presets mean to it."""

from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.commands import tune
from gateway.options import SettingsError
from gateway.tuning.trial_load import TrialLoad
from gateway.tuning.tune_settings import TuneSettings
from tests.backend.factories import write_tiny_llama


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"objective": "both"}, "--objective must be one of"),
        ({"concurrency": "0"}, "--concurrency must be"),
        ({"max_loss": "101"}, "--max-loss must be"),
        ({"extra": "{"}, "--extra must be a JSON object"),
        ({"out": "no/such/folder/tuned.toml"}, "there is no such directory"),
        ({"preset": "tea"}, "--preset must be one of chat, none, takeoff"),
    ],
)
def test_bad_flag_is_refused_in_words(flags: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        tune.load(flags)


def test_preset_sets_load_and_limits_where_flags_do_not() -> None:
    chat = tune.load({"preset": "chat", "max_ttft_ms": "500"})
    assert (chat.prompt_tokens, chat.max_ttft_ms, chat.max_itl_ms) == (512, 500.0, 150.0)
    takeoff = tune.load({"preset": "takeoff", "concurrency": "4"})
    assert (takeoff.prompt_tokens, takeoff.max_tokens, takeoff.max_ttft_ms) == (3, 256, 0.0)


def test_trace_with_a_hole_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.jsonl"
    good = '{"timestamp": 0, "input_length": 10, "output_length": 5, "hash_ids": [1]}'
    trace.write_text(f'{good}\n{{"timestamp": 5, "input_length": 10}}\n')
    model = write_tiny_llama(tmp_path / "model")
    with pytest.raises(SystemExit, match=r"trace\.jsonl, line 2|trace\.jsonl:2|line 2"):
        tune.run({"model": str(model), "load": str(trace), "out": str(tmp_path / "t.toml")})


def test_devices_that_are_not_here_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unisono plan MODEL"):
        tune.run({"model": "x", "devices": "4xA10"})


def test_prompts_that_no_layout_takes_end_the_command(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "model")
    flags = {"model": str(model), "prompt_tokens": "100000", "out": str(tmp_path / "t.toml")}
    with pytest.raises(SystemExit, match=r"no layout of .* fits this machine\nTP 1"):
        tune.run(flags)
    assert not (tmp_path / "t.toml").exists()


def test_model_that_gives_vectors_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    model = write_tiny_llama(tmp_path / "model")
    (model / "1_Pooling").mkdir()
    (model / "modules.json").write_text(
        '[{"idx": 0, "type": "sentence_transformers.models.Transformer", "path": ""},'
        ' {"idx": 1, "type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]'
    )
    (model / "1_Pooling/config.json").write_text(
        '{"word_embedding_dimension": 64, "pooling_mode_lasttoken": true}'
    )
    with pytest.raises(SystemExit, match="gives vectors or scores"):
        tune.run({"model": str(model), "out": str(tmp_path / "t.toml")})


def test_load_says_what_it_is() -> None:
    load = TrialLoad(TuneSettings(concurrency=1, prompt_tokens=32), {})
    assert str(load) == "1 stream, prompts of 32 tokens, 128 output tokens, temperature 0"
    assert load.shape == (1, 32, 128)


def test_help_names_the_objective(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["tune", "--help"])
    assert "--max-ttft-ms" in capsys.readouterr().out
