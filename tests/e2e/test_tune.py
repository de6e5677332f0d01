"""`unisono tune` with real servers of a tiny model: what it leaves, and what not."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.setting_sources import load
from tests.backend.factories import write_tiny_llama
from tests.e2e.server import clean_environment, tied, wait_until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
LOAD = ("--concurrency", "2", "--requests", "2", "--prompt-tokens", "8", "--max-tokens", "8")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the command runs: all its processes have it as their directory."""
    write_tiny_llama(tmp_path / "model", num_kv_heads=2, num_heads=4)
    yield tmp_path
    assert not _processes_in(tmp_path)


def _start(folder: Path, *flags: str) -> subprocess.Popen[str]:
    environment = clean_environment() | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gateway", "tune", "model", *LOAD, *flags]
    return subprocess.Popen(
        tied(command),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what it puts aside with interrupts ignored, which is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _processes_in(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                found.append(int(process.name))
        except OSError:
            continue  # it has ended, or is another's
    return found


def test_interrupted_tune_leaves_the_best_so_far_and_goes_on(folder: Path) -> None:
    tuning = _start(folder)
    assert tuning.stderr is not None
    for line in tuning.stderr:
        if line.startswith("layout, round 1") and "tokens/s" in line:
            break
    wait_until(lambda: len(_processes_in(folder)) > 1, 60, "the second server starts")
    os.kill(tuning.pid, signal.SIGINT)
    output, errors = tuning.communicate(timeout=300)
    assert tuning.returncode == 130, errors
    assert "not everything was tried: interrupted" in output
    assert not _processes_in(folder)
    tuned = load({}, {}, folder / "tuned.toml").settings.engine
    assert tuned.model == str(folder / "model")
    assert tuned.tp * tuned.dp * tuned.threads == len(os.sched_getaffinity(0))
    again = _start(folder, "--minutes", "0.001", "--max-ttft-ms", "0.01", "--html", "page.html")
    output, errors = again.communicate(timeout=300)
    # One, unless the second was over before it was interrupted.
    assert re.search(r"going on with [1-9] trials", errors)
    assert "nothing meets the objective: time to the first token (p99)" in output
    assert again.returncode == 1
    assert "<svg" in (folder / "page.html").read_text()
