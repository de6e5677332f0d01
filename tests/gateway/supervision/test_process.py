"""What the kernel tells of processes that live, die and are gone."""

import os
import signal
import subprocess
import sys

from gateway.supervision.process import dying_code, is_stopped, num_threads, rss_bytes
from tests.e2e.server import wait_until


def test_death_is_seen_before_the_process_is_reaped() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert dying_code(process.pid) is None
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: dying_code(process.pid) is not None, 10, "it dies")
    assert dying_code(process.pid) == -signal.SIGKILL
    process.communicate()
    assert dying_code(process.pid) is None


def test_status_of_an_exit_is_told() -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    wait_until(lambda: dying_code(process.pid) is not None, 10, "it exits")
    assert dying_code(process.pid) == 3
    process.wait()


def test_process_that_is_gone_has_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    assert (rss_bytes(process.pid), num_threads(process.pid)) == (0, 0)
    assert not is_stopped(process.pid)
