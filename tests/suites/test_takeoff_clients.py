"""TitanML's own client, LangChain's classes for Takeoff, and the curl of the article that this
server began from."""

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.backend.models.encoder_models import CASES
from tests.e2e.server import Server
from tests.e2e.test_embeddings import write_served
from tests.suites.conftest import MODEL
from tests.suites.environment import installed, run
from tests.suites.model import write_suite_model
from tests.suites.tally import Tally

pytestmark = pytest.mark.slow

CLIENT_VERSION = "0.7.0"
# The last whose embed() LangChain's TitanTakeoffEmbed can read.
EMBED_CLIENT_VERSION = "0.4.3"
LANGCHAIN_VERSION = "0.4.2"
TIMEOUT_S = 180.0
HERE = Path(__file__).parent
CURL = """
curl http://localhost:8000/generate_stream \
-X POST \
-N \
-H "Content-Type: application/json" \
-d '{"text": "List 3 things you can do in London"}'
"""


@dataclass(frozen=True)
class Takeoff:
    """A server with Takeoff's two ports."""

    port: int
    management_port: int


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def takeoff(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Takeoff]:
    """A tiny model in two groups, `primary` and `batch`."""
    directory = tmp_path_factory.mktemp("takeoff")
    model = write_suite_model(directory / "tiny")
    settings = directory / "unisono.toml"
    settings.write_text("[[groups]]\n[[groups]]\nname = 'batch'\n")
    management_port = free_port()
    arguments = ["--served-model-name", MODEL, "--kv-cache-bytes", str(64 << 20)]
    paths: list[str | Path] = ["--config", settings, "--control-socket", directory / "unisono.sock"]
    ports = ["--management-port", str(management_port)]
    with Server(model, *ports, *arguments, *paths) as server:
        yield Takeoff(server.port, management_port)


def test_takeoff_client_reads_every_answer(
    takeoff: Takeoff, report: Callable[[Tally], None]
) -> None:
    python = installed("takeoff", f"takeoff-client=={CLIENT_VERSION}") / "python"
    ports = (str(takeoff.port), str(takeoff.management_port))
    printed = run(python, HERE / "takeoff_script.py", *ports, MODEL, limit_s=TIMEOUT_S)
    report(Tally(f"takeoff-client {CLIENT_VERSION}", int(printed), 0))


def test_langchain_class_for_text_is_answered(
    takeoff: Takeoff, report: Callable[[Tally], None]
) -> None:
    python = langchain(CLIENT_VERSION)
    ports = (str(takeoff.port), str(takeoff.management_port))
    printed = run(python, HERE / "langchain_takeoff_script.py", *ports, MODEL, limit_s=TIMEOUT_S)
    report(Tally(f"langchain-community {LANGCHAIN_VERSION} TitanTakeoff", int(printed), 0))


def test_langchain_class_for_vectors_is_answered(
    tmp_path: Path, report: Callable[[Tally], None]
) -> None:
    python = langchain(EMBED_CLIENT_VERSION)
    directory = tmp_path / "tiny-bert"
    directory.mkdir()
    write_served(directory, CASES["bert"])
    with Server(directory, "--dtype", "float32") as server:
        arguments = (str(server.port), "1", "tiny-bert", "embed")
        script = HERE / "langchain_takeoff_script.py"
        printed = run(python, script, *arguments, limit_s=TIMEOUT_S)
    report(Tally(f"takeoff-client {EMBED_CLIENT_VERSION} TitanTakeoffEmbed", int(printed), 0))


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl_of_the_article_is_answered(takeoff: Takeoff) -> None:
    command = CURL.replace("8000", str(takeoff.port))
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(data: [^\n]*\n(data: [^\n]*\n)*\n)+", done.stdout), done.stdout


def langchain(client_version: str) -> Path:
    requirements = (
        f"langchain-community=={LANGCHAIN_VERSION}",
        f"takeoff-client=={client_version}",
    )
    return installed("langchain-takeoff", *requirements) / "python"
