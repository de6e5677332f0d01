"""Codex and Claude Code, from npm and without an account: a whole turn with calls and an answer.

Served is a model that says what is written here, so that there are calls of every kind that these
agents read: a shell's, a text for a custom tool, two at once, one in a namespace, one that fails.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import Server
from tests.suites.conftest import MODEL
from tests.suites.environment import installed_from_npm, run
from tests.suites.scripted_model import tool_call, write_scripted_model
from tests.suites.tally import Tally

pytestmark = pytest.mark.slow

CODEX_VERSION = "0.171.0"
CLAUDE_CODE_VERSION = "2.1.332"
TIMEOUT_S = 240.0
THOUGHT = "First I look around."
ANSWER = "It said hello — done, naïve ☃ user."
PATCH = '*** Begin Patch\n*** Add File: new.txt\n+hel"lo\n*** End Patch\n'
CODEX_TURNS = {
    0: f"<think>\n{THOUGHT}\n</think>\n\nLet me see.\n"
    + tool_call("exec_command", cmd="echo he''llo > made.txt; cat made.txt"),
    1: tool_call("apply_patch", input=PATCH),
    2: tool_call("exec_command", cmd="cat new.txt")
    + "\n"
    + tool_call("exec_command", cmd="echo two >&2; exit 3"),
    4: tool_call("multi_agent_v1__close_agent", target="nobody"),
}
# What the newest models of its catalog are sent: all tools in the input, in namespaces.
CODEX_LITE_TURNS = {
    0: tool_call("functions__exec", input="text('hi ' + 'there')"),
    1: tool_call("clock__sleep", duration_ms=1),
}
# A search finds a tool of an MCP server, which is called then.
CODEX_SEARCH_TURNS = {
    0: tool_call("tool_search", query="count number", limit=3),
    1: tool_call("mcp__demo__t1", x=1),
}
CODEX_MCP = """
[mcp_servers.demo]
command = "{python}"
args = ["{script}"]
"""
MCP_SCRIPT = """
import json, sys

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}
TOOLS = [
    {"name": f"t{i}", "description": f"Counts number {i}.", "inputSchema": SCHEMA} for i in range(3)
]
for line in sys.stdin:
    message = json.loads(line)
    match message.get("method"):
        case "initialize":
            version = message["params"]["protocolVersion"]
            info = {"name": "demo", "version": "1"}
            result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            result = {"tools": TOOLS}
        case "tools/call":
            result = {"content": [{"type": "text", "text": "counted"}]}
        case _:
            continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
CODEX_CONFIG = """\
model = "{model}"
model_provider = "unisono"
check_for_update_on_startup = false

[model_providers.unisono]
name = "Unisono"
base_url = "{url}/v1"
wire_api = "responses"

[analytics]
enabled = false
"""
# Codex offers models that it does not know no custom tool: this entry of its catalog is renamed.
KNOWN_MODEL = "gpt-5.5"
LITE_MODEL = "gpt-6.2-sol"
NO_WEB_SEARCH = ("-c", "web_search=disabled")


def claude_turns(directory: Path) -> dict[int, str]:
    """What the model says to Claude Code, which wants whole paths."""
    path = str(directory / "new.txt")
    shell = tool_call("Bash", command="echo he''llo > made.txt; cat made.txt", description="Hello")
    failing = tool_call("Bash", command="echo two >&2; exit 3", description="Fail")
    return {
        0: f"<think>\n{THOUGHT}\n</think>\n\nLet me see.\n{shell}",
        1: tool_call("Write", file_path=path, content='hel"lo — ☃\n'),
        2: tool_call("Read", file_path=path) + "\n" + failing,
        4: tool_call("ToolSearch", query="select:CronList,NotebookEdit", max_results=5),
        5: tool_call("CronList"),
    }


def serving(directory: Path, turns: dict[int, str]) -> Server:
    model = write_scripted_model(directory / MODEL, turns, ANSWER)
    return Server(model, "--served-model-name", MODEL, "--kv-cache-bytes", str(128 << 20))


class Codex:
    """The `codex` command with a home and a workplace of its own."""

    def __init__(
        self, url: str, directory: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        modules = installed_from_npm("@openai/codex", CODEX_VERSION)
        self._program = modules / ".bin" / "codex"
        self.home, self.workplace = directory / "codex_home", directory / "work"
        self.home.mkdir()
        self.workplace.mkdir()
        (self.home / "config.toml").write_text(CODEX_CONFIG.format(model=MODEL, url=url))
        home = str(self.home)
        self._variables = {"CODEX_HOME": home, "HOME": home, **(variables or {})}

    def known_model(self, slug: str = KNOWN_MODEL) -> tuple[str, str]:
        """Return the option that makes the served model one of its catalog."""
        models = run(self._program, "debug", "models", limit_s=TIMEOUT_S, variables=self._variables)
        entries = {entry["slug"]: entry for entry in json.loads(models)["models"]}
        entry = entries[slug] | {"slug": MODEL}
        path = self.home / "catalog.json"
        path.write_text(json.dumps({"models": [entry]}))
        return "-c", f"model_catalog_json={path}"

    def recorded(self) -> str:
        """Return what it has written down of its conversations."""
        return "".join(path.read_text() for path in self.home.rglob("rollout-*.jsonl"))

    def ask(self, *options: str) -> list[dict[str, Any]]:
        """Return its events."""
        command = ("exec", "--json", "--skip-git-repo-check", "-s", "danger-full-access")
        done = subprocess.run(
            [self._program, *command, "-C", self.workplace, *options, "Say hello"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env=_environment(self._variables),
        )
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def codex_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("codex"), CODEX_TURNS) as server:
        yield server


def test_codex_calls_a_shell_and_a_custom_tool(
    codex_server: Server, report: Callable[[Tally], None], tmp_path: Path
) -> None:
    codex = Codex(codex_server.url, tmp_path)
    events = codex.ask(*NO_WEB_SEARCH, *codex.known_model())
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    commands = [item for item in items if item["type"] == "command_execution"]
    assert [(item["aggregated_output"], item["exit_code"]) for item in commands] == [
        ("hello\n", 0),
        ('hel"lo\n', 0),
        ("two\n", 3),
    ]
    [change] = [item for item in items if item["type"] == "file_change"]
    assert change["status"] == "completed"
    assert (codex.workplace / "new.txt").read_text() == 'hel"lo\n'
    texts = [item["text"] for item in items if item["type"] == "agent_message"]
    assert texts == ["Let me see.", ANSWER]
    usage = events[-1]["usage"]
    assert events[-1]["type"] == "turn.completed"
    assert usage["reasoning_output_tokens"] > 0
    # Five prompts, each little longer than the one before; of the first nothing can be cached.
    assert usage["cached_input_tokens"] > 0.75 * usage["input_tokens"]
    report(Tally(f"codex {CODEX_VERSION}, model of its catalog", 1, 0))


def test_codex_sends_its_tools_in_the_input(
    report: Callable[[Tally], None], tmp_path: Path
) -> None:
    """A custom tool in a namespace and a function in another, both of `additional_tools`."""
    with serving(tmp_path, CODEX_LITE_TURNS) as server:
        codex = Codex(server.url, tmp_path)
        *_, answer, completed = codex.ask(*NO_WEB_SEARCH, *codex.known_model(LITE_MODEL))
    assert answer["item"]["text"] == ANSWER
    assert completed["type"] == "turn.completed"
    recorded = codex.recorded()
    assert "hi there" in recorded, "a text reaches the custom tool of a namespace"
    assert "Sleep completed." in recorded
    report(Tally(f"codex {CODEX_VERSION}, {LITE_MODEL}", 1, 0))


def test_codex_searches_for_tools(report: Callable[[Tally], None], tmp_path: Path) -> None:
    script = tmp_path / "mcp_server.py"
    script.write_text(MCP_SCRIPT)
    with serving(tmp_path, CODEX_SEARCH_TURNS) as server:
        codex = Codex(server.url, tmp_path)
        config = codex.home / "config.toml"
        mcp = CODEX_MCP.format(python=sys.executable, script=script)
        config.write_text(config.read_text() + mcp)
        events = codex.ask(*NO_WEB_SEARCH, *codex.known_model())
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    [called] = [item for item in items if item["type"] == "mcp_tool_call"]
    assert (called["tool"], called["status"]) == ("t1", "completed")
    assert items[-1]["text"] == ANSWER
    report(Tally(f"codex {CODEX_VERSION}, a tool found by search", 1, 0))


def test_codex_works_by_the_documented_lines(
    codex_server: Server, report: Callable[[Tally], None], tmp_path: Path
) -> None:
    """Those of gateway/API.md. Codex then takes its own word for a model that it does not know."""
    codex = Codex(codex_server.url, tmp_path)
    *_, failed = codex.ask()
    assert failed["type"] == "turn.failed"
    assert 'web_search = \\"disabled\\"' in failed["error"]["message"]
    *_, answer, completed = codex.ask(*NO_WEB_SEARCH)
    assert answer["item"]["text"] == ANSWER
    assert completed["type"] == "turn.completed"
    assert "invalid agent id nobody" in codex.recorded(), "a call in a namespace reaches its tool"
    report(Tally(f"codex {CODEX_VERSION}, unknown model", 2, 0))


@pytest.mark.parametrize("provider", ["ollama", "lmstudio"])
def test_codex_takes_it_for_another_local_server(
    codex_server: Server, report: Callable[[Tally], None], tmp_path: Path, provider: str
) -> None:
    codex = Codex(codex_server.url, tmp_path, {"CODEX_OSS_BASE_URL": f"{codex_server.url}/v1"})
    local = ("--oss", "--local-provider", provider, "-m", MODEL)
    *_, answer, completed = codex.ask(*NO_WEB_SEARCH, *local)
    assert answer["item"]["text"] == ANSWER
    assert completed["type"] == "turn.completed"
    report(Tally(f"codex {CODEX_VERSION} --oss, {provider}", 1, 0))


def test_claude_code_calls_tools_and_finds_deferred_ones(
    report: Callable[[Tally], None], tmp_path: Path
) -> None:
    modules = installed_from_npm("@anthropic-ai/claude-code", CLAUDE_CODE_VERSION)
    program = next(modules.glob("@anthropic-ai/claude-code-*/claude"))
    workplace = tmp_path / "work"
    workplace.mkdir()
    with serving(tmp_path, claude_turns(workplace)) as server:
        events = _ask_claude_code(program, server.url, tmp_path, workplace)
        refusals = [line for line in server.stderr.splitlines() if " status=4" in line]
    assert not refusals
    turns = [event for event in events if event["type"] in ("assistant", "user")]
    blocks = [block for event in turns for block in event["message"]["content"]]
    thoughts = [block["thinking"] for block in blocks if block["type"] == "thinking"]
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    assert thoughts == [THOUGHT]
    assert texts == ["Let me see.", ANSWER]
    results = [block for block in blocks if block["type"] == "tool_result"]
    shell, _, reading, failing, found, listing = (block["content"] for block in results)
    assert shell == "hello"
    assert reading.startswith('1\thel"lo — ☃')
    assert "Exit code 3" in failing
    assert [part["tool_name"] for part in found] == ["CronList", "NotebookEdit"]
    assert listing == "No scheduled jobs."
    result = events[-1]
    assert result["type"] == "result" and not result["is_error"]
    usage = result["usage"]
    num_cached, num_read = usage["cache_read_input_tokens"], usage["input_tokens"]
    assert num_cached > 0.75 * (num_cached + num_read)
    report(Tally(f"claude-code {CLAUDE_CODE_VERSION}", 1, 0))


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Ours without what would lead an agent elsewhere."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ANTHROPIC_", "CLAUDE", "CODEX_", "OPENAI_"))
    }
    return ours | dict(variables)


def _ask_claude_code(program: Path, url: str, home: Path, workplace: Path) -> list[dict[str, Any]]:
    """Return its events."""
    variables = {
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": "none",
        "ANTHROPIC_MODEL": MODEL,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": MODEL,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    form = ("--output-format", "stream-json", "--verbose")
    done = subprocess.run(
        [program, "-p", "Say hello", *form, "--allowedTools", "Bash,Write,Read"],
        cwd=workplace,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=_environment(variables),
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    lines = done.stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]
