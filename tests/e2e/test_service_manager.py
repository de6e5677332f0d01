"""A server under a service manager played by hand: what it is told, and the socket it passes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import request
from tests.e2e.server import clean_environment, processes_of, wait_until

pytestmark = pytest.mark.e2e

# As systemd does between fork and exec; it cannot be done from outside, for the pid is not known.
EXEC = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "gateway", "serve", *sys.argv[2:]])
"""
FLAGS = ("--port", "1", "--log-format", "json")


class Manager:
    """Collects what the service says."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.heard: list[str] = []

    def forget(self) -> None:
        self.has_heard("")
        self.heard.clear()

    def has_heard(self, word: str) -> bool:
        try:
            while True:
                self.heard += self.socket.recv(4096).decode().splitlines()
        except BlockingIOError:
            return any(line.startswith(word) for line in self.heard)

    def is_starving(self) -> bool:
        """Whether a whole second passes, three times the usual, without a word."""
        self.forget()
        time.sleep(1.0)
        return not self.has_heard("WATCHDOG=1")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    with manager.socket:
        yield manager


def test_service_tells_its_turns_and_serves_on_the_socket_it_is_given(
    tiny_model: Path, manager: Manager, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, (tmp_path / "log").open("w") as log:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-c", EXEC, str(listener.fileno()), tiny_model, *FLAGS],
            env=clean_environment()
            | {
                "NOTIFY_SOCKET": manager.socket.getsockname(),
                "WATCHDOG_USEC": "1000000",
                "LISTEN_FDS": "1",
            },
            pass_fds=[listener.fileno()],
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_until(lambda: manager.has_heard("READY=1"), 60, "it says that it is ready")
            assert manager.has_heard("EXTEND_TIMEOUT_USEC=")
            assert manager.has_heard("STATUS=loading weights")
            assert manager.has_heard(f"STATUS=serving tiny on {url}")
            assert request(url, "GET", "/readyz")[0] == 200
            manager.forget()
            wait_until(lambda: manager.has_heard("WATCHDOG=1"), 5, "it feeds the watchdog")
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: manager.has_heard("RELOADING=1"), 5, "it says that it reloads")
            wait_until(lambda: manager.has_heard("READY=1"), 5, "and that it is done")
            pids = {name: pid for pid, name in processes_of(process.pid).items()}
            worker, rank = pids["unisono: gateway 0"], pids["unisono: rank 0.0"]
            os.kill(worker, signal.SIGSTOP)
            wait_until(manager.is_starving, 20, "the watchdog is not fed any more")
            os.kill(worker, signal.SIGCONT)
            wait_until(lambda: manager.has_heard("WATCHDOG=1"), 5, "the watchdog is fed again")
            manager.forget()
            os.kill(rank, signal.SIGKILL)
            wait_until(lambda: manager.has_heard("STATUS=0 of 1 groups serve"), 5, "it has trouble")
            wait_until(lambda: manager.has_heard("STATUS=serving tiny"), 60, "it has none any more")
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
            assert manager.has_heard("STOPPING=1")
            events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
            assert {"time", "level", "process", "message"} <= set.intersection(*map(set, events))
            [ready] = [event for event in events if "is ready after" in event["message"]]
            assert ready["url"] == url
            assert ready["compute"].endswith("TP 1 x DP 1")
        finally:
            process.kill()
            process.wait()
