"""Servers and models that several files of tests share: each server takes seconds to start."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.backend.factories import write_tiny_llama
from tests.e2e.clients import openai_client
from tests.e2e.server import Server


@pytest.fixture(scope="session")
def default_server() -> Iterator[Server]:
    """The default model as `unisono serve` without flags serves it."""
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def exact_server() -> Iterator[Server]:
    """The default model in exact mode. 1 GiB of KV cache holds 46,000 tokens in bfloat16."""
    with Server("--exact", "--kv-cache-bytes", str(1 << 30)) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama that starts fast and has a long context, for tests of processes."""
    return write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny", max_model_len=16384)


@pytest.fixture
def client(default_server: Server) -> Iterator[openai.OpenAI]:
    """The official client, connected to the default server."""
    with openai_client(default_server.url) as client:
        yield client
