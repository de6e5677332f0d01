"""Ollama's own client for Python against the routes under /api."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.server import Server
from tests.suites.conftest import MODEL
from tests.suites.environment import installed, run
from tests.suites.tally import Tally

pytestmark = pytest.mark.slow

VERSION = "0.6.3"
TIMEOUT_S = 120.0
SCRIPT = Path(__file__).with_name("ollama_script.py")


def test_ollama_client_reads_every_answer(
    suite_server: Server, report: Callable[[Tally], None]
) -> None:
    python = installed("ollama", f"ollama=={VERSION}") / "python"
    printed = run(python, SCRIPT, suite_server.url, MODEL, limit_s=TIMEOUT_S)
    report(Tally(f"ollama {VERSION}", int(printed), 0))
