"""`unisono chat` and `unisono run` as people and scripts have them: in a terminal, and in pipes."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backend.factories import write_tiny_llama
from tests.e2e.crowd import FREED_SECONDS, SLOW_SEED, SLOWLY
from tests.e2e.server import LEFTOVER_SECONDS, Server, clean_environment, processes_of, wait_until
from tests.suites.model import CHAT_TEMPLATE

pytestmark = pytest.mark.e2e

LIMIT_S = 120.0
# Ctrl-C is a signal only in a terminal that controls the process.
OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
FEW_TOKENS = ("--max-tokens", "12", "--seed", "1")


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a template."""
    path = write_tiny_llama(tmp_path_factory.mktemp("chat") / "tiny", max_model_len=16384)
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return path


@pytest.fixture(scope="module")
def chat_server(chat_model: Path) -> Iterator[Server]:
    with Server(chat_model, *SLOWLY) as server:
        yield server


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "gateway", *map(str, arguments)]


def environment() -> dict[str, str]:
    return clean_environment() | {"UNISONO_THREADS": "1", "TERM": "dumb", "PYTHONUTF8": "1"}


def piped(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command with something piped in."""
    return subprocess.run(
        command(*arguments),
        input=given,
        capture_output=True,
        env=environment(),
        text=True,
        timeout=LIMIT_S,
    )


def server_of(pid: int) -> int:
    """Wait for a command's server, which leads a session of its own; return that."""
    path = Path(f"/proc/{pid}/task/{pid}/children")

    def is_there() -> bool:
        children = path.read_text().split()
        return bool(children) and "unisono: supervisor" in processes_of(int(children[0])).values()

    wait_until(is_there, LIMIT_S, "it starts a server")
    return int(path.read_text().split()[0])


def num_running(server: Server) -> int:
    with urllib.request.urlopen(f"{server.url}/readyz") as answer:
        groups = json.load(answer)["groups"]
    return sum(group["running"] + group["waiting"] for group in groups)


class Terminal:
    """A command in a terminal of its own: what it shows, and what is typed."""

    def __init__(self, *arguments: str | Path) -> None:
        self._controller, terminal = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *command(*arguments)],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=environment(),
            start_new_session=True,
            # A shell's background jobs are started with the signal ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(terminal)
        self.pid = self._process.pid
        self.shown = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *failure: object) -> None:
        """Kill what still runs in it."""
        self._process.kill()
        self._process.wait()
        os.close(self._controller)

    def type(self, text: str) -> None:
        os.write(self._controller, text.encode())

    def wait_for(self, pattern: str) -> str:
        """Wait until something is shown; return all up to it, and forget that."""
        deadline = time.monotonic() + LIMIT_S
        while not (found := re.search(pattern, self.shown)):
            assert time.monotonic() < deadline, f"{pattern!r} is not in {self.shown!r}"
            if not select.select([self._controller], [], [], 1.0)[0]:
                continue
            try:
                self.shown += os.read(self._controller, 4096).decode(errors="replace")
            except OSError:  # it has ended
                raise AssertionError(f"{pattern!r} is not in {self.shown!r}") from None
        text, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return text

    def end(self) -> int:
        """Wait for its end; return the exit status."""
        with contextlib.suppress(OSError):  # which is how a terminal says that nobody is there
            while os.read(self._controller, 4096):
                pass
        return self._process.wait(LIMIT_S)


def test_piped_question_is_answered_and_nothing_else_said(chat_server: Server) -> None:
    done = piped("chat", "--url", chat_server.url, *FEW_TOKENS, given="Hello")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n") and done.stdout.strip()
    assert done.stdout == piped("chat", "--url", chat_server.url, *FEW_TOKENS, given="Hello").stdout


def test_interrupt_stops_the_answer_and_the_chat_goes_on(chat_server: Server) -> None:
    flags = ("--url", chat_server.url, "--max-tokens", "14000", "--seed", str(SLOW_SEED))
    with Terminal("chat", *flags) as terminal:
        terminal.wait_for(">>> ")
        terminal.type("/set min_tokens 14000\r")
        terminal.wait_for(">>> ")
        terminal.type("Hello\r")
        terminal.wait_for(r"Hello\r\n(.|\n){20}")
        terminal.type("\x03")
        terminal.wait_for("stopped(.|\\n)*>>> ")
        wait_until(lambda: num_running(chat_server) == 0, FREED_SECONDS, "the group runs nothing")
        terminal.type("/set min_tokens 1\r")
        terminal.wait_for(">>> ")
        terminal.type("/set max_tokens 9\r")
        terminal.wait_for(">>> ")
        terminal.type("Again\r")
        assert "tokens" in terminal.wait_for("tokens.*\n(.|\\n)*>>> ")
        terminal.type("\x04")
        assert terminal.end() == 0


def test_model_is_run_for_one_answer(chat_model: Path) -> None:
    done = piped("run", chat_model, *FEW_TOKENS, "Say", given="something")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n") and done.stdout.strip()


def test_interrupted_run_leaves_nothing_behind(chat_model: Path) -> None:
    with Terminal("run", chat_model, "--max-tokens", "14000", "Hello") as terminal:
        session = server_of(terminal.pid)
        terminal.wait_for(r"\r\x1b\[K.")
        terminal.type("\x03")
        assert terminal.end() == 128 + signal.SIGINT
        wait_until(lambda: not processes_of(session), LEFTOVER_SECONDS, "its server is gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_run_takes_its_server_along(number: signal.Signals, chat_model: Path) -> None:
    with Terminal("run", chat_model, "Hello") as terminal:
        session = server_of(terminal.pid)
        os.kill(terminal.pid, number)
        terminal.end()
        wait_until(lambda: not processes_of(session), LEFTOVER_SECONDS, "its server is gone")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chat", "--url", "127.0.0.1:1"], "127.0.0.1:1 cannot be reached: Connection refused"),
        (["run", "/no/model", "Hello"], "there is no file or directory /no/model"),
    ],
)
def test_what_cannot_be_is_told_in_words(arguments: list[str], words: str) -> None:
    done = piped(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("unisono: ") and words in done.stderr
    assert (done.stdout, "Traceback" in done.stderr) == ("", False)
