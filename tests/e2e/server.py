"""A real server for a test: started, watched from outside, and always gone afterwards.

Owns the process tree of one `serve`: it runs in a session of its own, so every process that belongs
to it is found in /proc, whoever its parent is by then. Knows nothing of requests. `TEST_LEVEL=vnni`
makes every server compute as on a lesser processor: see tests/level.py.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from backend.wire.local.lifeline import PR_SET_PDEATHSIG
from gateway.procfs import stat_fields
from tests.level import forced_level

# The parent-death signal outlives exec.
TIE = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, {signal.SIGKILL:d})
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
# What follows finds the descriptor as systemd's children find theirs.
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execvp(sys.argv[2], sys.argv[2:])
"""
# Seconds on a machine that is not busy; only a test that fails waits so long.
START_SECONDS = 300.0
STOP_SECONDS = 60.0
GIVE_UP_SECONDS = 120.0
# The kernel ends the rest within milliseconds, but Python's tracker of resources ends by itself,
# and waits for a turn of a busy processor.
LEFTOVER_SECONDS = 60.0
# Between two looks; what is longer is the machine's, which stood still.
MOST_BETWEEN_SECONDS = 1.0


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return as soon as `condition` holds; fail with `what` if it does not in time.

    Time in which this process had no turn does not count: nobody else may have had one.
    """
    waited_s, last_s = 0.0, time.monotonic()
    while not condition():
        now_s = time.monotonic()
        waited_s += min(now_s - last_s, MOST_BETWEEN_SECONDS)
        last_s = now_s
        assert waited_s < timeout_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.01)


def serve_command(*arguments: str | Path) -> list[str]:
    """The command line of a server on any free port."""
    return [sys.executable, "-m", "gateway", "serve", "--port", "0", *map(str, arguments)]


def tied(command: Sequence[str]) -> list[str]:
    """Return a command that the kernel kills when the process that starts it dies.

    Not even SIGKILL of pytest leaves a server behind then: its supervisor takes the rest along.
    """
    return [sys.executable, "-c", TIE, str(os.getpid()), *command]


def _handing_over(listener: socket.socket | None) -> list[str]:
    if listener is None:
        return []
    return [sys.executable, "-c", HAND_OVER, str(listener.fileno())]


def refused_start(*arguments: str | Path) -> str:
    """Start a server that must not start, and must leave nothing; return its words.

    They are at most five lines, the first of which names the program, and no traceback.
    """
    process = subprocess.Popen(
        tied(serve_command(*arguments)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        start_new_session=True,
        text=True,
    )
    try:
        output, words = process.communicate(timeout=GIVE_UP_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode > 0, words
    assert output == ""
    lines = words.splitlines()
    assert 1 <= len(lines) <= 5, words
    assert lines[0].startswith("unisono: "), words
    assert "Traceback" not in words
    wait_until(lambda: not processes_of(process.pid), LEFTOVER_SECONDS, "all processes are gone")
    return words


def clean_environment() -> dict[str, str]:
    """Ours, less what the server would take for settings, and with those of a forced level."""
    settings = {name for name in os.environ if name.startswith(("UNISONO_", "TAKEOFF_"))}
    settings -= {"UNISONO_CACHE"}
    kept = {name: value for name, value in os.environ.items() if name not in settings}
    return kept | forced_level().environment


def processes_of(session: int) -> dict[int, str]:
    """Living processes of a session: pid -> command line, blanks for NULs."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = stat_fields(int(entry.name))
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it ended while we looked
        if fields[0] not in ("Z", "X") and int(fields[3]) == session:
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def shared_memory_of(pids: Iterable[int]) -> set[Path]:
    """Named shared memory that processes have mapped, and that would survive them."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            mapped = [line.split(None, 5)[-1] for line in _read(pid, "maps").splitlines()]
            found |= {Path(path) for path in mapped if path.startswith("/dev/shm/")}
    return {path for path in found if not path.name.endswith(" (deleted)")}


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


class Server:
    """`python -m gateway serve` with some arguments, from the ready lines to the last process.

    A model that is named first is a tiny one, which a rank computes fastest with one thread; the
    default model gets what `unisono serve` gives it.
    Leaving the context kills what still runs, and fails if anything outlives that.
    """

    def __init__(
        self,
        *arguments: str | Path,
        within: Sequence[str] = (),
        listener: socket.socket | None = None,
    ) -> None:
        """within: what runs the command line, as `ip netns exec NAME`, and becomes the server.
        listener: where it serves, handed over as a service manager does."""
        self._shared_memory: set[Path] = set()
        names_model = bool(arguments) and not str(arguments[0]).startswith("--")
        self._process = subprocess.Popen(
            tied([*_handing_over(listener), *within, *serve_command(*arguments)]),
            pass_fds=[listener.fileno()] if listener is not None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=clean_environment() | ({"UNISONO_THREADS": "1"} if names_model else {}),
            start_new_session=True,
            text=True,
        )
        self.session = self._process.pid
        self._lines: list[str] = []
        self._has_news = threading.Condition()
        self._is_silent = False  # every process that could write has gone
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""

    def __enter__(self) -> "Server":
        """Wait until it serves."""
        try:
            self.wait_for_line("  -d '")
            [self.url] = re.findall(r"^  URL +(\S+)/v1$", self.stderr, re.MULTILINE)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        """Kill what still runs. Fails if anything is left."""
        self._kill()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        with self._has_news:
            return "".join(self._lines)

    @property
    def processes(self) -> dict[str, int]:
        """Processes that named themselves: title -> pid."""
        commands = processes_of(self.session)
        return {name: pid for pid, name in commands.items() if name.startswith("unisono: ")}

    def wait_for_line(self, start: str, timeout_s: float = START_SECONDS) -> None:
        """Wait for a line on standard error that begins with `start`."""
        with self._has_news:
            self._has_news.wait_for(lambda: self._is_silent or self._has(start), timeout_s)
            assert self._has(start), f"no line {start!r} came:\n{''.join(self._lines)}"

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor alone, as a service manager does."""
        self._shared_memory |= shared_memory_of(processes_of(self.session))
        self._process.send_signal(number)

    def wait(self, timeout_s: float = STOP_SECONDS) -> int:
        """Wait for the supervisor's end; return its exit status."""
        return self._process.wait(timeout_s)

    def check_nothing_left(self) -> None:
        """Fail if a process or a piece of shared memory outlives the supervisor by some seconds."""

        def left() -> list[str]:
            files = [str(path) for path in self._shared_memory if path.exists()]
            return [*processes_of(self.session).values(), *files]

        try:
            wait_until(lambda: not left(), LEFTOVER_SECONDS, "nothing outlives the supervisor")
        except AssertionError as error:
            raise AssertionError(f"outlived the supervisor: {left()}") from error

    def _has(self, start: str) -> bool:
        return any(line.startswith(start) for line in self._lines)

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for line in stderr:
                with self._has_news:
                    self._lines.append(line)
                    self._has_news.notify_all()
        with self._has_news:
            self._is_silent = True
            self._has_news.notify_all()

    def _kill(self) -> None:
        """End the supervisor, which ends the rest; end the rest too, should it not."""
        self.send(signal.SIGKILL)
        self._process.wait()
        try:
            self.check_nothing_left()
        finally:
            for pid in processes_of(self.session):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._reader.join()
