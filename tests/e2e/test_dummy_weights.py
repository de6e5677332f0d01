"""Shapes served without their weights."""

from pathlib import Path

import pytest

from tests.backend.factories import write_tiny_llama
from tests.e2e.clients import post
from tests.e2e.server import Server

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_tiny_shape_is_served_by_any_number_of_ranks(tmp_path: Path, ranks: str) -> None:
    source = write_tiny_llama(tmp_path / "tiny")
    (source / "model.safetensors").unlink()
    flags = ("--load-format", "dummy", "--tp", ranks, "--kv-cache-bytes", "1000000")
    asked = {"model": "tiny", "prompt": [5, 6, 7], "max_tokens": 8, "temperature": 0}
    with Server(source / "config.json", *flags) as server:
        status, answer = post(server.url, "/v1/completions", **asked)
    assert status == 200 and answer["usage"]["completion_tokens"] == 8


def test_named_shape_is_served() -> None:
    flags = ("--load-format", "dummy", "--kv-cache-bytes", "50000000")
    asked = {"model": "SmolLM2-135M", "prompt": "abc", "max_tokens": 4, "temperature": 0}
    with Server("SmolLM2-135M", *flags) as server:
        status, answer = post(server.url, "/v1/completions", **asked)
    assert status == 200 and answer["usage"]["completion_tokens"] == 4
