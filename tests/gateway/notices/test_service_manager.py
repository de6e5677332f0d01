"""A service manager played by hand: a real notify socket, real inherited descriptors."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.notices.service_manager import ServiceManager, inherited_socket


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock


def manager(sock: socket.socket, **more: str) -> ServiceManager:
    return ServiceManager({"NOTIFY_SOCKET": sock.getsockname(), **more})


def told(sock: socket.socket) -> list[str]:
    return sock.recv(4096).decode().splitlines()


def test_states_are_told_in_the_words_of_sd_notify(notified: socket.socket) -> None:
    service = manager(notified)
    service.extend_start(60, "loading weights 10 %")
    assert told(notified) == ["EXTEND_TIMEOUT_USEC=60000000", "STATUS=loading weights 10 %"]
    service.ready("serving")
    assert told(notified) == ["READY=1", "STATUS=serving"]
    service.reloading()
    reloading, since = told(notified)
    assert reloading == "RELOADING=1" and int(since.removeprefix("MONOTONIC_USEC=")) > 0
    service.alive()
    assert told(notified) == ["WATCHDOG=1"]
    service.stopping(5, "draining")
    assert told(notified) == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=5000000", "STATUS=draining"]


def test_status_is_told_when_it_changes(notified: socket.socket) -> None:
    service = manager(notified)
    for text in ("a", "a", "b"):
        service.status(text)
    assert (told(notified), told(notified)) == (["STATUS=a"], ["STATUS=b"])
    service.ready("c")
    service.status("c")
    service.alive()
    assert (told(notified)[-1], told(notified)) == ("STATUS=c", ["WATCHDOG=1"])


def test_abstract_socket_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0unisono-test-{os.getpid()}")
        sock.settimeout(60)
        ServiceManager({"NOTIFY_SOCKET": f"@unisono-test-{os.getpid()}"}).alive()
        assert told(sock) == ["WATCHDOG=1"]


def test_neither_a_missing_nor_a_lost_manager_matters(tmp_path: Path) -> None:
    ServiceManager({}).ready("serving")
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("serving")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, 0.0),
        ({}, 0.0),
    ],
)
def test_watchdog_is_ours_if_it_names_us(environ: dict[str, str], seconds: float) -> None:
    assert ServiceManager(environ).watchdog_s == seconds
    assert not environ


PROGRAM = """\
import os, sys
from gateway.notices.service_manager import SocketError, inherited_socket
if int(sys.argv[1]) != 3:
    os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
try:
    sock = inherited_socket(os.environ)
except SocketError as error:
    print(error)
else:
    print(sock.getsockname()[1], "LISTEN_FDS" in os.environ, os.get_inheritable(3))
"""


def inherit(sock: socket.socket, count: str = "1") -> str:
    """Run a process that has `sock` as its descriptor 3, as systemd passes it."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(sock.fileno())],
        env={**os.environ, "LISTEN_FDS": count},
        pass_fds=[sock.fileno()],
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


def test_listening_socket_is_inherited() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert inherit(sock) == f"{sock.getsockname()[1]} False False"


def test_what_cannot_be_served_is_refused_with_what_to_do() -> None:
    with socket.socket() as silent, socket.create_server(("127.0.0.1", 0)) as sock:
        assert "does not listen" in inherit(silent)
        assert "leave one ListenStream=" in inherit(sock, "2")


def test_sockets_for_another_process_are_left_alone() -> None:
    assert inherited_socket({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) is None
    assert inherited_socket({}) is None
