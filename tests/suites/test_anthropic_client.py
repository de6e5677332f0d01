"""Anthropic's own client, and LangChain's ChatAnthropic, against POST /v1/messages."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.server import Server
from tests.suites.conftest import MODEL
from tests.suites.environment import installed, run
from tests.suites.tally import Tally

pytestmark = pytest.mark.slow

VERSION = "2.14.0"
LANGCHAIN_VERSION = "1.7.10"
TIMEOUT_S = 180.0
SCRIPT = Path(__file__).with_name("anthropic_script.py")
LANGCHAIN_SCRIPT = Path(__file__).with_name("langchain_anthropic_script.py")


def test_anthropic_client_reads_every_answer(
    suite_server: Server, report: Callable[[Tally], None]
) -> None:
    python = installed("anthropic", f"anthropic=={VERSION}") / "python"
    printed = run(python, SCRIPT, suite_server.url, MODEL, limit_s=TIMEOUT_S)
    report(Tally(f"anthropic {VERSION}", int(printed), 0))


def test_langchain_of_anthropic_gets_answers_and_calls(
    suite_server: Server, report: Callable[[Tally], None]
) -> None:
    wanted = f"langchain-anthropic=={LANGCHAIN_VERSION}"
    python = installed("langchain-anthropic", wanted) / "python"
    printed = run(python, LANGCHAIN_SCRIPT, suite_server.url, MODEL, limit_s=TIMEOUT_S)
    report(Tally(f"langchain-anthropic {LANGCHAIN_VERSION}", int(printed), 0))
