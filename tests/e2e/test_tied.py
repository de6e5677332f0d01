"""The helper that starts servers leaves none behind."""

import os
import select
import subprocess
import sys

TESTER = """
import subprocess, sys
from tests.e2e.server import tied
server = subprocess.Popen(tied(["/bin/sh", "-c", "echo $$; exec sleep 1000"]))
server.wait()
"""


def test_a_server_dies_with_the_tests_however_those_end() -> None:
    """A pytest that was killed, by SIGTERM or a time limit, left its servers running."""
    with subprocess.Popen([sys.executable, "-c", TESTER], stdout=subprocess.PIPE) as tester:
        assert tester.stdout is not None
        pidfd = os.pidfd_open(int(tester.stdout.readline()))
        try:
            tester.kill()
            assert select.select([pidfd], [], [], 10)[0] == [pidfd]
        finally:
            os.close(pidfd)
