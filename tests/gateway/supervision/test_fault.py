import os
import signal
import subprocess
import sys

import pytest

from gateway.procfs import oom_kills
from gateway.supervision.fault import Fault


def test_request_is_not_blamed_for_what_came_from_outside() -> None:
    fault = Fault("rank 0.0", 1, "killed by SIGSEGV", "", 1, "step", 3, suspects=[(0, 7)])
    assert fault.blamed == [(0, 7)]
    killed = Fault("rank 0.0", 1, "killed", "", 1, "step", 3, suspects=[(0, 7)], is_foreign=True)
    assert killed.blamed == []
    assert "0:7" in str(Fault("r", 1, "c", "", 1, "step", 3, num_seqs=1, suspects=[(0, 7)]))


def test_ordinary_kill_is_not_counted_as_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    before = oom_kills()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert oom_kills() == before
    monkeypatch.setattr("pathlib.Path.read_text", lambda path: "nr_free_pages 1\n")
    assert oom_kills() is None
