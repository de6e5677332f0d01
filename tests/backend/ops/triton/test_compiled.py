"""Triton's kernels compile for GPUs, which need not be here: interpreters take more than that."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.numerics

SCRIPT = "tests.backend.ops.triton.compile_kernels"
ROOT = Path(__file__).parents[4]
# What a program may have on the smallest card that is meant: of those that run 8.0's code an A10
# (8.6), and an H100.
MOST_SHARED_BYTES = {"80": 99 << 10, "90": 227 << 10}


@pytest.mark.parametrize(
    "arguments",
    [["80"], *(pytest.param([n, "all"], marks=pytest.mark.slow) for n in ("80", "90"))],
)
def test_kernels_compile_within_a_cards_shared_memory(tmp_path: Path, arguments: list[str]) -> None:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-m", SCRIPT, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shared = json.loads(done.stdout.splitlines()[-1])
    assert len(shared) > 15
    assert {
        name: size for name, size in shared.items() if size > MOST_SHARED_BYTES[arguments[0]]
    } == {}
