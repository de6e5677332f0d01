"""Libraries that agents are written with: pydantic-ai, instructor and LiteLLM; LiteLLM as a proxy.

Where calls must make sense, a model is served that says what is written here: a thought, a text and
a call, then an answer. Structured answers come from the random one.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import Server
from tests.suites.conftest import MODEL
from tests.suites.environment import installed, run
from tests.suites.litellm_proxy import (
    Proxy,
    Reply,
    chat_reply,
    message_reply,
    proxy_of,
    response_reply,
)
from tests.suites.scripted_model import tool_call, write_scripted_model
from tests.suites.tally import Tally

pytestmark = pytest.mark.slow

# The newest whose proxy PyPI's mirror has: that of 1.110 is a package of its own.
PROXY_VERSION = "1.106.12"
LITELLM_VERSION = "1.110.2"
PYDANTIC_AI_VERSION = "2.66.0"
INSTRUCTOR_VERSION = "1.17.0"
TIMEOUT_S = 240.0
CALL, ASKED, ANSWER = ("weather", {"city": "Bern"}), "Let me ask.", "It is 3 °C in Bern — cold."
THOUGHT = "<think>\nHow is it there?\n</think>\n\n"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
QUESTION = {"role": "user", "content": "How is the weather?"}
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def scripted_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    turns = {0: f"{THOUGHT}{ASKED}\n{tool_call(CALL[0], **CALL[1])}"}
    model = write_scripted_model(tmp_path_factory.mktemp("litellm") / MODEL, turns, ANSWER)
    with Server(model, "--served-model-name", MODEL, "--kv-cache-bytes", str(64 << 20)) as server:
        yield server


def test_pydantic_ai_runs_agents_in_three_dialects(
    scripted_server: Server, suite_server: Server, report: Callable[[Tally], None]
) -> None:
    wanted = f"pydantic-ai-slim[openai,anthropic]=={PYDANTIC_AI_VERSION}"
    python = installed("pydantic-ai", wanted) / "python"
    script, urls = HERE / "pydantic_ai_script.py", (scripted_server.url, suite_server.url)
    printed = run(python, script, *urls, MODEL, limit_s=TIMEOUT_S)
    report(Tally(f"pydantic-ai {PYDANTIC_AI_VERSION}", int(printed), 0))


def test_instructor_gets_objects_in_each_of_its_modes(
    suite_server: Server, report: Callable[[Tally], None]
) -> None:
    python = installed("instructor", f"instructor[anthropic]=={INSTRUCTOR_VERSION}") / "python"
    script = HERE / "instructor_script.py"
    printed = run(python, script, suite_server.url, MODEL, limit_s=TIMEOUT_S)
    report(Tally(f"instructor {INSTRUCTOR_VERSION}", int(printed), 0))


def test_litellm_reads_calls_in_every_form(
    scripted_server: Server, report: Callable[[Tally], None]
) -> None:
    python = installed("litellm", f"litellm=={LITELLM_VERSION}") / "python"
    keys = {"OPENAI_API_KEY": "none", "ANTHROPIC_API_KEY": "none"}
    variables = keys | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    script = HERE / "litellm_script.py"
    printed = run(
        python, script, scripted_server.url, MODEL, limit_s=TIMEOUT_S, variables=variables
    )
    report(Tally(f"litellm {LITELLM_VERSION}", int(printed.split()[-1]), 0))


def chat(proxy: Proxy, model: str, *, has_result: bool, is_streamed: bool) -> Reply:
    function = {"name": CALL[0], "arguments": '{"city": "Bern"}'}
    called = [
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "3"},
    ]
    tool = {"type": "function", "function": {"name": CALL[0], "parameters": SCHEMA}}
    messages = [QUESTION, *(called if has_result else [])]
    fields = {"messages": messages, "tools": [tool], "stream": is_streamed}
    body = proxy.post("/v1/chat/completions", model=model, **fields)
    return chat_reply(body, is_streamed=is_streamed)


def message(proxy: Proxy, model: str, *, has_result: bool, is_streamed: bool) -> Reply:
    use = {"type": "tool_use", "id": "a", "name": CALL[0], "input": CALL[1]}
    called = [
        {"role": "assistant", "content": [use]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "a", "content": "3"}],
        },
    ]
    messages = [QUESTION, *(called if has_result else [])]
    tools = [{"name": CALL[0], "input_schema": SCHEMA}]
    fields = {"messages": messages, "tools": tools, "stream": is_streamed, "max_tokens": 500}
    body = proxy.post("/v1/messages", model=model, **fields)
    return message_reply(body, is_streamed=is_streamed)


def response(proxy: Proxy, model: str, *, has_result: bool, is_streamed: bool) -> Reply:
    call = {"type": "function_call", "call_id": "a", "name": CALL[0]}
    called = [
        {**call, "arguments": '{"city": "Bern"}'},
        {"type": "function_call_output", "call_id": "a", "output": "3"},
    ]
    items = [QUESTION, *(called if has_result else [])]
    tools = [{"type": "function", "name": CALL[0], "parameters": SCHEMA}]
    fields = {"input": items, "tools": tools, "stream": is_streamed}
    body = proxy.post("/v1/responses", model=model, **fields)
    return response_reply(body, is_streamed=is_streamed)


def test_litellm_proxy_passes_calls_and_answers(
    scripted_server: Server, report: Callable[[Tally], None], tmp_path: Path
) -> None:
    program = installed("litellm-proxy", f"litellm[proxy]=={PROXY_VERSION}") / "litellm"
    url = scripted_server.url
    versioned = {"api_key": "none", "api_base": f"{url}/v1"}
    models: dict[str, dict[str, str]] = {
        "completions": {"model": f"openai/{MODEL}", **versioned},
        "vllm": {"model": f"hosted_vllm/{MODEL}", **versioned},
        "messages": {"model": f"anthropic/{MODEL}", "api_key": "none", "api_base": url},
        "responses": {"model": f"openai/responses/{MODEL}", **versioned},
        "ollama": {"model": f"ollama_chat/{MODEL}", "api_base": url},
    }
    forms: tuple[Callable[..., Reply], ...] = (chat, message, response)
    wrong: dict[str, Any] = {}
    with proxy_of(program, models, tmp_path) as proxy:
        cases = [(form, name, streamed) for form in forms for name in models for streamed in (0, 1)]
        for form, name, streamed in cases:
            for has_result in (False, True):
                wanted = Reply(ANSWER) if has_result else Reply(ASKED, [CALL])
                try:
                    got: Any = form(proxy, name, has_result=has_result, is_streamed=bool(streamed))
                except Exception as error:
                    got = repr(error)
                if got != wanted:
                    wrong[f"{form.__name__} over {name}, {streamed=}, {has_result=}"] = got
    report(Tally(f"litellm {PROXY_VERSION} proxy", 2 * len(cases) - len(wrong), len(wrong)))
    assert not wrong
