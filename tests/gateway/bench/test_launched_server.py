"""A server that was started for a measurement serves, or is told about, and is always stopped.

Programs of a few lines stand in for `unisono serve`.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.bench import launched_server
from gateway.bench.launched_server import LaunchedServer, ServerDied, flags_of
from gateway.procfs import of_session
from tests.e2e.server import wait_until

READY = {"level": "info", "process": "supervisor", "message": "ready"} | {
    "url": "http://127.0.0.1:1",
    "model": "fake",
    "compute": "cpu, none",
}
SERVES = f"""
import json, signal, subprocess, sys
program = [sys.executable, "-c", "input()"]  # until its parent is gone
child = subprocess.Popen(program, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
print("loading", "...", file=sys.stderr)
print({json.dumps(READY)!r}, file=sys.stderr, flush=True)
"""


def launched(
    program: str, settings: Mapping[str, object] | None = None, start_seconds: float = 30
) -> LaunchedServer:
    command = [sys.executable, "-c", program]
    return LaunchedServer(settings or {}, command=command, start_seconds=start_seconds)


def error(message: str, process: str = "supervisor") -> str:
    event = {"level": "error", "process": process, "message": message}
    return f"print({json.dumps(event)!r}, file=sys.stderr, flush=True)\n"


def test_server_is_described_when_it_serves_and_gone_afterwards() -> None:
    with launched(SERVES + "signal.pause()", {"tp": 2}) as server:
        assert (server.url, server.model, server.compute) == (
            "http://127.0.0.1:1",
            "fake",
            "cpu, none",
        )
        pids = server.pids
        assert len(pids) == 2
        assert server.memory_bytes > 1 << 20
        assert server.cpu_seconds() >= 0
        assert server.ready_s > 0
        server.check()
        assert server.command == ["unisono", "serve", "--tp", "2"]
    assert of_session(pids[0]) == []
    server.stop()


def test_server_that_ignores_its_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.bench.launched_server.STOP_SECONDS", 0.05)
    with launched("import signal; signal.signal(15, signal.SIG_IGN)" + SERVES + "signal.pause()"):
        pass


def test_death_before_it_serves_is_told() -> None:
    with pytest.raises(ServerDied, match="not enough memory: 3 GB\nfree some") as died:
        with launched("import sys\n" + error("not enough memory: 3 GB\nfree some") + "sys.exit(1)"):
            pass
    assert died.value.death.is_out_of_memory


def test_server_that_never_serves_is_given_up() -> None:
    with pytest.raises(ServerDied, match=r"it did not serve within 0\.2 s"):
        with launched("import signal; signal.pause()", start_seconds=0.2):
            pass


def test_death_under_load_is_told() -> None:
    with launched(SERVES + "signal.pause()") as server:
        os.kill(server.pids[0], signal.SIGKILL)
        wait_until(lambda: not server.is_whole, 60, "it is dead")
        with pytest.raises(ServerDied, match="was killed by SIGKILL"):
            server.check()


def test_dead_group_ends_a_measurement_though_another_lives() -> None:
    program = SERVES + error("a request failed", "worker 0") + error("group 1 died: killed")
    with launched(program + "signal.pause()") as server:
        wait_until(lambda: not server.is_whole, 60, "the fault is read")
        with pytest.raises(ServerDied, match="group 1 died: killed"):
            server.check()


def test_server_dies_with_the_process_that_measures(tmp_path: Path) -> None:
    """Not even SIGKILL leaves a server behind."""
    program = f"""
import pathlib, sys
from gateway.bench.launched_server import LaunchedServer
command = [sys.executable, "-c", {SERVES + "signal.pause()"!r}]
with LaunchedServer({{}}, command=command) as server:
    print(server.pids[0], flush=True)
    input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.communicate()
    wait_until(lambda: of_session(pid) == [], 60, "the server is gone")


def test_settings_of_the_environment_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISONO_TP", "7")
    monkeypatch.setenv("TAKEOFF_MODEL_NAME", "other")
    names = ("UNISONO_TP", "TAKEOFF_MODEL_NAME", "MINE")
    told = f"import os, sys; sys.exit(str([os.environ.get(name) for name in {names}]))"
    command = [sys.executable, "-c", told]
    with pytest.raises(ServerDied, match=r"\[None, None, 'x'\]"):
        with LaunchedServer({}, command=command, environment={"MINE": "x"}):
            pass


def test_settings_are_written_as_flags() -> None:
    settings: dict[str, object] = {
        "tp": 2,
        "model": "m.gguf",
        "prefix_caching": False,
        "exact": True,
        "devices": ("cuda:0", "cuda:1"),
        "inter_token_ms": 200.0,
        "default_chat_template_kwargs": {"a": 1},
    }
    assert flags_of(settings) == [
        *("m.gguf", "--tp", "2", "--no-prefix-caching", "--exact", "--devices", "cuda:0,cuda:1"),
        *("--inter-token-ms", "200", "--default-chat-template-kwargs", '{"a": 1}'),
    ]


def test_signal_during_a_spawn_waits_for_its_end() -> None:
    """Ctrl-C between a process and its tie left a server behind."""
    done = False
    # A shell's background jobs are started with the signal ignored.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), launched_server._signals_held():
            signal.raise_signal(signal.SIGINT)
            done = True
    finally:
        signal.signal(signal.SIGINT, former)
    assert done
