"""Loads by name are the values of flags that were not given."""

import json

import pytest

from gateway.bench.bench_settings import BenchSettings
from gateway.commands import bench
from gateway.options import SettingsError


def test_takeoff_is_table_3_of_the_article() -> None:
    settings = bench.load({"preset": "takeoff"})
    assert (settings.prompt_tokens, settings.max_tokens, settings.temperature) == (3, 256, 1.0)
    assert json.loads(settings.extra) == {
        "min_tokens": 256,
        "top_p": 0.9,
        "top_k": 20,
        "no_repeat_ngram_size": 5,
        "repetition_penalty": 2.0,
    }


def test_chat_has_limits() -> None:
    settings = bench.load({"preset": "chat"})
    assert settings.ttft_limit_ms > 0 and settings.itl_limit_ms > 0


def test_flags_win_over_the_preset() -> None:
    settings = bench.load({"preset": "takeoff", "max_tokens": "8", "extra": "{}"})
    assert (settings.max_tokens, settings.extra, settings.prompt_tokens) == (8, "{}", 3)


def test_no_preset_changes_nothing() -> None:
    assert bench.load({}) == BenchSettings()


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(SettingsError, match="--preset must be one of chat, none, takeoff, not 'x'"):
        bench.load({"preset": "x"})


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"rate": "1", "concurrency": "2"}, "--rate and --concurrency exclude each other"),
        ({"rate": "0"}, "--rate must be a list separated by commas, each a number"),
        ({"html": "/no/such/x.html"}, "--html /no/such/x.html: there is no such directory"),
        ({"extra": "[1]"}, "--extra must be a JSON object"),
    ],
)
def test_what_cannot_be_measured_is_refused(flags: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        bench.load(flags)
