"""A server under a service manager played by hand: what it is told, and the socket it passes.

One server for all tests, which leave it serving; the last one stops it.
"""

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
from tests.e2e.server import (
    START_SECONDS,
    STOP_SECONDS,
    clean_environment,
    processes_of,
    tied,
    wait_until,
)

pytestmark = pytest.mark.e2e

# systemd does this between fork and exec; from outside it cannot be done: the pid is not known.
EXEC = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "gateway", "serve", *sys.argv[2:]])
"""
FLAGS = ("--port", "1", "--log-format", "json")
WATCHDOG_SECONDS = 1.0


class Manager:
    """Collects what the service says."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.heard: list[str] = []
        self._fed_s = time.monotonic()

    def forget(self) -> None:
        self._listen()
        self.heard.clear()

    def has_heard(self, word: str) -> bool:
        self._listen()
        return any(line.startswith(word) for line in self.heard)

    def is_starving(self) -> bool:
        """Whether the watchdog has not been fed for as long as it bears."""
        self._listen()
        return time.monotonic() - self._fed_s > WATCHDOG_SECONDS

    def _listen(self) -> None:
        try:
            while True:
                lines = self.socket.recv(4096).decode().splitlines()
                if "WATCHDOG=1" in lines:
                    self._fed_s = time.monotonic()
                self.heard += lines
        except BlockingIOError:
            pass


class Service:
    """A server on a socket that it is given, and its manager."""

    def __init__(self, model: Path, home: Path, manager: Manager, listener: socket.socket) -> None:
        self.manager = manager
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._log = home / "log"
        told = {
            "NOTIFY_SOCKET": manager.socket.getsockname(),
            "WATCHDOG_USEC": f"{WATCHDOG_SECONDS * 1e6:.0f}",
            "LISTEN_FDS": "1",
        }
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                tied([sys.executable, "-c", EXEC, str(listener.fileno()), str(model), *FLAGS]),
                env=clean_environment() | told,
                pass_fds=[listener.fileno()],
                stderr=log,
                start_new_session=True,
            )

    def wait_for(self, word: str, timeout_s: float = 60) -> None:
        wait_until(lambda: self.manager.has_heard(word), timeout_s, word)

    def pid(self, title: str) -> int:
        return {name: pid for pid, name in processes_of(self.process.pid).items()}[title]

    def events(self) -> list[dict[str, str]]:
        """What it has logged so far."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]


@pytest.fixture(scope="module")
def started(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, list[str]]]:
    """The service once it is ready, and what it had said by then."""
    home = tmp_path_factory.mktemp("manager")
    manager = Manager(home / "notify")
    with manager.socket, socket.create_server(("127.0.0.1", 0)) as listener:
        service = Service(tiny_model, home, manager, listener)
        try:
            service.wait_for("READY=1", START_SECONDS)
            yield service, manager.heard.copy()
        finally:
            service.process.kill()
            service.process.wait()


@pytest.fixture
def service(started: tuple[Service, list[str]]) -> Service:
    """The service, whose past words are forgotten."""
    started[0].manager.forget()
    return started[0]


def test_start_is_told_turn_by_turn(started: tuple[Service, list[str]]) -> None:
    service, heard = started
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in heard)
    assert any(line.startswith("STATUS=loading weights") for line in heard)
    assert any(line.startswith(f"STATUS=serving tiny on {service.url}") for line in heard)


def test_given_socket_is_served(service: Service) -> None:
    assert request(service.url, "GET", "/readyz")[0] == 200


def test_watchdog_is_fed(service: Service) -> None:
    service.wait_for("WATCHDOG=1")


def test_reload_is_told_to_its_end(service: Service) -> None:
    service.process.send_signal(signal.SIGHUP)
    service.wait_for("RELOADING=1")
    service.wait_for("READY=1")


def test_watchdog_starves_while_a_worker_is_stopped(service: Service) -> None:
    worker = service.pid("unisono: worker 0")
    os.kill(worker, signal.SIGSTOP)
    try:
        wait_until(service.manager.is_starving, 60, "the watchdog is not fed any more")
    finally:
        os.kill(worker, signal.SIGCONT)
    service.manager.forget()
    service.wait_for("WATCHDOG=1")


def test_loss_of_a_group_is_told_and_its_return(service: Service) -> None:
    os.kill(service.pid("unisono: rank 0.0"), signal.SIGKILL)
    service.wait_for("STATUS=0 of 1 groups serve")
    service.wait_for("STATUS=serving tiny", START_SECONDS)


def test_log_is_json_and_says_what_serves(service: Service) -> None:
    events = service.events()
    assert {"time", "level", "process", "message"} <= set.intersection(*map(set, events))
    [ready] = [event for event in events if "is ready after" in event["message"]]
    assert ready["url"] == service.url
    assert ready["compute"].endswith("TP 1 x DP 1")


def test_stop_is_told_and_ends_with_0(service: Service) -> None:
    """The last test here: it leaves no service."""
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(STOP_SECONDS) == 0
    assert service.manager.has_heard("STOPPING=1")
