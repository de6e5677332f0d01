"""Anthropic's own client against POST /v1/messages."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.server import Server
from tests.suites.conftest import MODEL
from tests.suites.environment import installed, run
from tests.suites.tally import Tally

pytestmark = pytest.mark.slow

VERSION = "2.14.0"
TIMEOUT_S = 180.0
SCRIPT = Path(__file__).with_name("anthropic_script.py")


def test_anthropic_client_reads_every_answer(
    suite_server: Server, report: Callable[[Tally], None]
) -> None:
    python = installed("anthropic", f"anthropic=={VERSION}") / "python"
    printed = run(python, SCRIPT, suite_server.url, MODEL, limit_s=TIMEOUT_S)
    report(Tally(f"anthropic {VERSION}", int(printed), 0))
