"""A child, spawned for real: told, heard, watched and killed."""

import select
import signal
from multiprocessing.connection import Connection

import pytest

from backend.wire.control import ControlClosed, Pong, Stop, SupervisorLine
from backend.wire.local.child import Child, exit_text

ECHO = "tests.backend.wire.local.child_entry:echo_main"
TIMEOUT_S = 30.0


def wait(readable: int | SupervisorLine | Connection) -> None:
    assert select.select([readable], [], [], TIMEOUT_S)[0], "nothing came"


def test_child_is_told_and_heard_and_ends_with_its_status() -> None:
    child = Child("echo", ECHO, "hello", 3, keeps_stderr=True)
    wait(child.line)
    assert child.line.receive() == Pong() and child.is_alive
    assert child.stderr is not None
    wait(child.stderr)
    with open(child.stderr.fileno(), "rb", closefd=False, buffering=0) as stderr:
        assert stderr.read(100) == b"hello\n"
    child.line.send(Stop())
    wait(child.pidfd)
    assert child.exit_code == 3
    with pytest.raises(ControlClosed):
        child.line.receive()
    child.close()


def test_child_is_killed_whatever_it_does() -> None:
    child = Child("echo", ECHO, "hello", 0, keeps_stderr=True)
    wait(child.line)
    child.send_signal(signal.SIGSTOP)
    child.kill()
    wait(child.pidfd)
    assert exit_text(child.exit_code) == "killed by SIGKILL"
    child.kill()
    child.close()


@pytest.mark.parametrize(
    ("exit_code", "text"),
    [
        (None, "still runs"),
        (0, "exited with status 0"),
        (-11, "killed by SIGSEGV"),
        (-99, "killed by signal 99"),
    ],
)
def test_exit_text_names_status_or_signal(exit_code: int | None, text: str) -> None:
    assert exit_text(exit_code) == text
