"""Servers and models that several files of tests share: each server takes seconds to start.

The real model is for what needs one: its text, its weights, its size. All else is tested on a tiny
random one, whose tokens cost next to nothing on any machine.
"""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.backend.factories import write_tiny_llama
from tests.e2e.clients import openai_client
from tests.e2e.crowd import SLOWLY
from tests.e2e.server import Server
from tests.e2e.tool_template import TOOL_TEMPLATE


@pytest.fixture(scope="session")
def default_server() -> Iterator[Server]:
    """The default model as `unisono serve` without flags serves it."""
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def tool_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The default model with a template that knows tools."""
    template = tmp_path_factory.mktemp("template") / "tools.jinja"
    template.write_text(TOOL_TEMPLATE)
    with Server("--chat-template", template) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama that starts fast and has a long context."""
    return write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny", max_model_len=16384)


@pytest.fixture(scope="session")
def tiny_server(tiny_model: Path) -> Iterator[Server]:
    """The tiny model as it is served without flags. Nobody may harm it."""
    with Server(tiny_model) as server:
        yield server


@pytest.fixture(scope="session")
def slow_server(tiny_model: Path) -> Iterator[Server]:
    """The tiny model, which takes its time for requests of SLOW_SEED. Nobody may harm it."""
    with Server(tiny_model, *SLOWLY) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_exact_server(tiny_model: Path) -> Iterator[Server]:
    """The tiny model in exact mode. Nobody may harm it."""
    with Server(tiny_model, "--exact") as server:
        yield server


@pytest.fixture
def client(default_server: Server) -> Iterator[openai.OpenAI]:
    """The official client, connected to the default server."""
    with openai_client(default_server.url) as client:
        yield client


@pytest.fixture
def tiny_client(tiny_server: Server) -> Iterator[openai.OpenAI]:
    """The official client, connected to the tiny server."""
    with openai_client(tiny_server.url) as client:
        yield client
