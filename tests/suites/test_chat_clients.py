"""Programs that people talk to models with: LangChain's ChatOpenAI, and the `llm` command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.server import Server
from tests.suites.conftest import MODEL
from tests.suites.environment import installed, run
from tests.suites.tally import Tally

pytestmark = pytest.mark.slow

LANGCHAIN_VERSION = "1.7.4"
LLM_VERSION = "0.36"
TIMEOUT_S = 120.0
SCRIPT = Path(__file__).with_name("langchain_script.py")
# JSON, which YAML takes: what `llm` calls each model, and what may be asked of it.
LLM_MODELS = ({"model_id": "chat", "supports_schema": True}, {"model_id": "text", "completion": 1})


def test_langchain_gets_whole_streamed_and_structured_answers(
    suite_server: Server, report: Callable[[Tally], None]
) -> None:
    python = installed("langchain", f"langchain-openai=={LANGCHAIN_VERSION}") / "python"
    printed = run(
        python,
        SCRIPT,
        suite_server.url,
        MODEL,
        limit_s=TIMEOUT_S,
        variables={"OPENAI_API_KEY": "none"},
    )
    report(Tally(f"langchain-openai {LANGCHAIN_VERSION}", int(printed), 0))


def test_llm_command_talks_to_it_by_configuration(
    suite_server: Server, report: Callable[[Tally], None], tmp_path: Path
) -> None:
    common = {"model_name": MODEL, "api_base": f"{suite_server.url}/v1"}
    models = [{**model, **common} for model in LLM_MODELS]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))
    llm = installed("llm", f"llm=={LLM_VERSION}") / "llm"

    def ask(*arguments: str) -> str:
        variables = {"OPENAI_API_KEY": "none", "LLM_USER_PATH": str(tmp_path)}
        return run(llm, *arguments, "Hello", limit_s=TIMEOUT_S, variables=variables)

    options = ("-o", "seed", "7", "-o", "max_tokens", "12")
    whole = ask("-m", "chat", "--no-stream", *options)
    assert whole.strip()
    assert ask("-m", "chat", *options) == whole
    assert ask("-m", "text", *options).strip()
    # Closed: a random model would go on with further properties until its context is full.
    schema = json.dumps(
        {
            "type": "object",
            "properties": {"is_fine": {"type": "boolean"}},
            "required": ["is_fine"],
            "additionalProperties": False,
        }
    )
    answer = json.loads(ask("-m", "chat", "--no-stream", "--schema", schema))
    assert type(answer["is_fine"]) is bool
    report(Tally(f"llm {LLM_VERSION}", 4, 0))
