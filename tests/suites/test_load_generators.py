"""Load generators of others run to their end against the server, without one error."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backend.factories import write_tiny_llama
from tests.e2e.server import Server
from tests.suites.environment import OFFLINE, installed, run

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

MODEL = "tiny"
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
NUM_REQUESTS = 64
CONCURRENCY = 8
PROMPT_TOKENS = 64
OUTPUT_TOKENS = 16
RUN_SECONDS = 600.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that the server and the tools' tokenizer read: what is measured is neither."""
    path = write_tiny_llama(tmp_path_factory.mktemp("model") / MODEL, max_model_len=4096)
    (path / "chat_template.jinja").write_text(TEMPLATE)
    return path


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with Server(model) as server:
        yield server


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_aiperf_completes(server: Server, model: Path, tmp_path: Path, endpoint: str) -> None:
    numbers = {
        "--concurrency": CONCURRENCY,
        "--request-count": NUM_REQUESTS,
        "--synthetic-input-tokens-mean": PROMPT_TOKENS,
        "--output-tokens-mean": OUTPUT_TOKENS,
    }
    options = [word for name, number in numbers.items() for word in (name, str(number))]
    options += ["--endpoint-type", endpoint, "--streaming", "--ui", "none"]
    # A random model may end at once, and an answer without text counts as an error there.
    options += ["--extra-inputs", "ignore_eos:true"]
    where = ["--url", server.url, "--model", MODEL, "--tokenizer", str(model)]
    # Offline it would take the tokenizer's directory for the name of a repository.
    aiperf = installed("aiperf", "aiperf==0.13.0", sees_ours=True) / "aiperf"
    run(aiperf, "profile", *where, *options, "--artifact-dir", tmp_path, limit_s=RUN_SECONDS)
    report = json.loads((tmp_path / "profile_export_aiperf.json").read_text())
    print(f"aiperf, {endpoint}: {report['request_count']['avg']:.0f} requests, no error")
    assert not report["error_summary"]
    assert report["request_count"]["avg"] == NUM_REQUESTS
    assert not report["was_cancelled"]


def test_guidellm_completes(server: Server, model: Path, tmp_path: Path) -> None:
    report_file = tmp_path / "report.json"
    kinds = {
        "--backend": f"kind=openai_http,target={server.url},model={MODEL}",
        "--profile": f"kind=concurrent,streams={CONCURRENCY}",
        "--constraint": f"kind=max_requests,count={NUM_REQUESTS}",
        "--tokenizer": f"kind=huggingface_auto,model={model}",
        "--data": "kind=synthetic_text,"
        f"prompt_tokens={PROMPT_TOKENS},output_tokens={OUTPUT_TOKENS}",
        "--output": f"kind=json,path={report_file}",
    }
    options = [word for pair in kinds.items() for word in pair]
    guidellm = installed("guidellm", "guidellm==0.8.1", sees_ours=True) / "guidellm"
    run(guidellm, "run", *options, "--disable-console", limit_s=RUN_SECONDS, variables=OFFLINE)
    [benchmark] = json.loads(report_file.read_text())["benchmarks"]
    totals = benchmark["metrics"]["request_totals"]
    print(f"guidellm: {totals['successful']} requests, {totals['errored']} errors")
    assert totals == {
        "successful": NUM_REQUESTS,
        "errored": 0,
        "incomplete": 0,
        "total": NUM_REQUESTS,
    }
