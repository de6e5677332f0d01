"""What may be typed, and how a mistake is answered: a line or two, never a traceback."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from backend.config.errors import ModelError
from gateway import cli, hub, start
from gateway.commands import serve
from gateway.commands.table import COMMANDS, GROUPS
from gateway.settings import ServerSettings, Settings


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Let a model be found at tmp_path; the list gets what would have been served."""
    seen: list[Settings] = []

    def run(settings: Settings, asked_for: str) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr(start, "run", run)
    monkeypatch.setattr(hub, "resolve", lambda model, **options: tmp_path / "model")
    return seen


def ends(argv: Sequence[str]) -> int | str | None:
    """Run a command line that ends early and return what it exits with."""
    with pytest.raises(SystemExit) as raised:
        cli.main(argv)
    return raised.value.code


@pytest.mark.parametrize(
    "argv",
    [["--help"], ["serve", "--help"], ["bench", "serve", "--help"], ["keys", "new", "--help"]],
)
def test_help_fits_into_80_columns(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(argv) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80


def test_help_of_serve_shows_every_setting_with_its_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ends(["serve", "--help"])
    text = capsys.readouterr().out
    for line in ("--port N", "[8000]", "--dtype {auto,", "--no-exact", "[off]", "--hf-token"):
        assert line in text
    assert all(f"\n{group}:\n" in text for group in ("server", "model", "engine"))


def test_each_command_has_a_module_and_a_group() -> None:
    """What would be found only when somebody types it."""
    for command in COMMANDS:
        spec = find_spec(f"gateway.commands.{command.module}")
        assert spec is not None and spec.origin is not None, command.path
        assert "\ndef run(" in Path(spec.origin).read_text(), command.path
        group, _, _ = command.path.rpartition(" ")
        assert not group or group in GROUPS, command.path


@pytest.mark.parametrize("argv", [[], ["bench"], ["keys"]])
def test_without_a_command_the_commands_are_listed(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["srv"], "invalid choice: 'srv'"),
        (["serve", "--max-num-seq", "1"], "no flag --max-num-seq; did you mean --max-num-seqs?"),
        (["serve", "--prt=1"], "there is no flag --prt; did you mean --port?"),
        (["serve", "one", "two"], "unexpected argument two"),
        (["serve", "--port"], "argument --port: expected one argument"),
        (["serve", "--port", "x"], "--port must be an integer from 0 to 65535, not 'x'"),
        (["serve", "--dtype", "int3"], "--dtype must be one of auto, bfloat16,"),
        (["serve", "--config", "/no.toml"], "/no.toml cannot be read"),
        (["run"], "the following arguments are required: MODEL"),
        (["run", "x"], "what is to be answered? Give a PROMPT, or pipe a text in"),
        (["run", "x", "y", "z"], "unexpected argument z"),
        (["run", "x", "--tpp", "2", "y"], "no flag --tpp; did you mean --tp?"),
        (["run", "x", "y", "--port", "1"], "there is no flag --port"),
        (["run", "x", "y", "--temperature", "3"], "--temperature must be a number from 0 to 2"),
        (["top", "--url", "http://[::1"], "--url http://[::1: Invalid IPv6 URL"),
        (["chat", "--url", "ftp://x"], "--url: it must be http://... or https://..."),
        (["keys", "new"], "which file of keys? Give --file or set UNISONO_API_KEYS"),
        (["keys", "new", "--scopes", "root"], "each one of admin, infer"),
        (["keys", "revoke"], "the following arguments are required: ID"),
        (["bench", "serve", "--rounds", "0"], "--rounds must be an integer from 1 to 100"),
        (["bench", "serve", "--concurrency", "1,x"], "--concurrency must be a list"),
        (["bench", "serve", "--extra", "[]"], "--extra must be a JSON object"),
        (["bench", "serve", "--json", "/no/where/x"], "there is no such directory"),
    ],
)
def test_mistake_is_answered_in_two_lines_with_status_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(argv) == 2
    captured = capsys.readouterr()
    first, second = captured.err.splitlines()
    assert first.startswith("unisono: ") and message in first
    assert second.startswith("see unisono") and second.endswith("--help")
    assert captured.out == ""


def test_serve_gets_the_merged_settings_and_the_path(
    tmp_path: Path, served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "u.toml").write_text("[engine]\ntp = 2\n")
    monkeypatch.setenv("UNISONO_PORT", "0")
    argv = ["serve", str(tmp_path), "--config", str(tmp_path / "u.toml"), "--exact"]
    assert cli.main(argv) == 0
    (settings,) = served
    assert settings.engine.model == str(tmp_path / "model")
    assert (settings.engine.tp, settings.engine.exact, settings.server.port) == (2, True, 0)
    assert settings.server.served_model_name == ()


def test_clients_key_is_not_taken_for_a_servers(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNISONO_API_KEY", "sk-1")
    assert cli.main(["serve", "org/name", "--api-keys", "keys.toml"]) == 0
    assert capsys.readouterr().err == ""
    assert cli.main(["serve", "org/name"]) == 0
    said = capsys.readouterr().err
    assert "a server's keys are --api-keys FILE" in said and "sk-1" not in said


def test_hub_model_is_served_under_its_hub_name(served: list[Settings]) -> None:
    cli.main(["serve", "org/name"])
    cli.main(["serve", "org/name", "--served-model-name", "a,b"])
    assert [settings.server.served_model_name for settings in served] == [("org/name",), ("a", "b")]


def test_token_reaches_the_hub_and_goes_no_further(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def resolve(model: str, **options: object) -> Path:
        asked.append(options)
        return Path("/model")

    monkeypatch.setattr(hub, "resolve", resolve)
    serve.with_model_found(Settings(server=ServerSettings(hf_token="s3cret", revision="v1")))
    wanted = {"revision": "v1", "token": "s3cret", "offline": False, "progress": True}
    assert asked == [wanted]
    cli.main(["serve", "--hf-token", "s3cret"])
    assert "s3cret" not in repr(served)


@pytest.mark.parametrize("error", [hub.ModelNotFound("gone\nlook again"), ModelError("gone")])
def test_missing_model_ends_with_its_words_and_status_1(
    error: Exception,
    served: list[Settings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def resolve(model: str, **options: object) -> Path:
        raise error

    monkeypatch.setattr(hub, "resolve", resolve)
    assert cli.main(["serve", "x"]) == 1
    lines = [f"unisono: {line}" for line in str(error).splitlines()]
    assert capsys.readouterr().err.splitlines() == lines
    assert served == []


def test_interrupt_ends_without_traceback(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(settings: Settings, asked_for: str) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(start, "run", run)
    assert cli.main(["serve"]) == 130


def test_entry_module_imports_nothing_of_ours_until_called() -> None:
    code = "import sys, gateway.__main__; print([m for m in sys.modules if m.startswith('gate')])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["['gateway',", "'gateway.__main__']"]


@pytest.mark.parametrize("command", ["serve", "bench"])
def test_commands_load_neither_torch_nor_transformers(command: str) -> None:
    code = (
        f"import sys, gateway.cli, gateway.commands.{command}; "
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_keys_are_made_listed_and_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNISONO_API_KEYS", str(tmp_path / "keys.toml"))
    assert cli.main(["keys", "new", "--name", "team a", "--scopes", "infer,admin"]) == 0
    key = capsys.readouterr().out.strip()
    key_id = key.split("-")[1]
    assert cli.main(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith(key_id) and "team a" in listed and "admin,infer" in listed
    assert key.split("-", 2)[2] not in listed
    assert cli.main(["keys", "revoke", key_id]) == 0
    assert "it was the last one" in capsys.readouterr().err
    assert "no key" in str(ends(["keys", "revoke", key_id]))


def test_reader_that_leaves_early_is_no_error() -> None:
    """`unisono ctl list | head -1` said that no server answers."""
    command = [sys.executable, "-m", "gateway", "config"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_models_lists_families_by_the_names_of_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    text = capsys.readouterr().out
    assert "llama " in text
    assert re.search(r"\n  config.json Qwen3ForCausalLM\b[^\n]*\n  GGUF        qwen3\b", text)
    assert cli.main(["models", "--json"]) == 0
    rows = {row["family"]: row for row in json.loads(capsys.readouterr().out)}
    assert "LlamaForCausalLM" in rows["llama"]["config_json"]
