"""The helper that starts servers leaves none behind, however the tests end."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.server import LEFTOVER_SECONDS, processes_of, shared_memory_of, wait_until

TIED = """
import subprocess
from tests.e2e.server import tied
server = subprocess.Popen(tied(["/bin/sh", "-c", "echo $$; exec sleep 1000"]))
server.wait()
"""
SERVED = """
import sys
from tests.e2e.server import Server
with Server(sys.argv[1], "--tp", "2") as server:
    print(server.session, flush=True)
    sys.stdin.read()
"""


def test_tied_process_dies_with_its_tester() -> None:
    """A pytest that was killed, by SIGTERM or a time limit, left its servers running."""
    with subprocess.Popen([sys.executable, "-c", TIED], stdout=subprocess.PIPE) as tester:
        assert tester.stdout is not None
        pidfd = os.pidfd_open(int(tester.stdout.readline()))
        try:
            tester.kill()
            assert select.select([pidfd], [], [], LEFTOVER_SECONDS)[0] == [pidfd]
        finally:
            os.close(pidfd)


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_server_leaves_nothing_when_its_tester_is_killed(
    tiny_model: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", SERVED, str(tiny_model)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tester:
        assert tester.stdout is not None
        session = int(tester.stdout.readline())
        processes = processes_of(session)
        assert len([name for name in processes.values() if "rank" in name]) == 2
        files = shared_memory_of(processes)
        tester.send_signal(number)
    wait_until(lambda: not processes_of(session), LEFTOVER_SECONDS, "every process has gone")
    assert not any(file.exists() for file in files)
