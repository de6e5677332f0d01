"""schemathesis: requests made from /openapi.json, good and bad, and answers compared with it.

Every event of a stream is compared, too. What is generated is the same in every run.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.description.operations import OPERATIONS
from tests.e2e.server import Server
from tests.suites.conftest import MODEL
from tests.suites.environment import installed
from tests.suites.tally import Tally

pytestmark = pytest.mark.slow

VERSION = "4.32.5"
TIMEOUT_S = 1800.0
MAX_EXAMPLES = 50
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
# What is for models of other tasks, and the answers that nobody keeps.
REFUSED = {
    "POST /v1/embeddings",
    "POST /v1/rerank",
    "POST /rerank",
    "POST /v2/rerank",
    "POST /embed",
    "POST /api/embed",
    "POST /api/embeddings",
    "POST /classify",
    "GET /v1/responses/{name}",
}
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def test_answers_to_described_requests_fit_the_description(
    suite_server: Server, report: Callable[[Tally], None], tmp_path: Path
) -> None:
    command = installed("schemathesis", f"schemathesis=={VERSION}") / "st"
    result = tmp_path / "result.json"
    done = subprocess.run(
        [
            *(command, "run", f"{suite_server.url}/openapi.json", "--no-color", "--seed", "1"),
            *("--phases", "examples,coverage,fuzzing", "--checks", ",".join(CHECKS)),
            *("--max-examples", str(MAX_EXAMPLES), "--continue-on-failure"),
            *("--request-timeout", "60", "--generation-database", "none"),
            *("--report", "json", "--report-json-path", result),
        ],
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": str(HOOKS), "SUITE_MODEL": MODEL},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert result.exists(), done.stdout + done.stderr
    found = json.loads(result.read_text())
    cases = found["test_cases"]
    failed = cases["with_failures"] + cases["errored"]
    report(Tally(f"schemathesis {VERSION}", cases["generated"] - failed, failed))
    assert done.returncode == 0 and failed == 0, done.stdout
    assert found["complete"]
    # It does not test the operation that it read the description from.
    described = {f"{o.method} {o.path}" for o in OPERATIONS if o.path != "/openapi.json"}
    rates = found["valid_rates"]
    assert set(rates) == described
    # A suite that only ever met refusals would pass as well.
    refused = {name for name in rates if not rates[name]["fuzzing"]["accepted"]}
    assert refused <= REFUSED, refused - REFUSED
