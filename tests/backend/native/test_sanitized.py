"""The C kernels under AddressSanitizer and UndefinedBehaviorSanitizer: their tests, run again."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import backend.native
from backend.native import absence, kernels

SOURCES = Path(backend.native.__file__).parent
# Lines are enough to find a fault by; where each variable is takes minutes more.
FLAGS = "-std=c11 -O1 -ffp-contract=off -g1 -pthread -fPIC -fsanitize=address,undefined".split()
# It runs the tests with another build in the place of the installed extension.
RUN = """
import importlib.util, sys, pytest, torch
spec = importlib.util.spec_from_file_location("backend.native._kernels", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.modules[spec.name] = module
sys.exit(pytest.main(["-p", "no:cacheprovider", "-n", "0", "-m", "not slow", *sys.argv[2:]]))
"""


@pytest.mark.slow
@pytest.mark.skipif(kernels is None, reason=absence)
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    target = tmp_path / "_kernels.so"
    include = sysconfig.get_path("include")
    macro = "-DPy_LIMITED_API=0x030B0000"

    def compiled(source: Path) -> str:
        made = str(tmp_path / f"{source.stem}.o")
        command = ["gcc", *FLAGS, macro, f"-I{include}", "-c", str(source), "-o", made]
        subprocess.run(command, check=True)
        return made

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        objects = list(pool.map(compiled, sorted(SOURCES.rglob("*.c"))))
    subprocess.run(["gcc", "-shared", *FLAGS, *objects, "-o", str(target), "-lm"], check=True)
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    here = Path(__file__).parent
    names = ["native/test_gemm.py", "native/test_levels.py", "ops/test_native.py"]
    names += ["ops/test_delta_rule.py", "ops/test_ssm_scan.py", "ops/test_gated_norm.py"]
    names += ["ops/test_latent.py", "ops/test_routing.py"]
    names += ["ops/test_cumulative_probs.py", "ops/test_token_masks.py", "ops/test_topk.py"]
    names += ["native/test_program.py", "ops/test_recorded_steps.py"]
    tests = [str(here.parent / name) for name in names]
    result = subprocess.run(
        [sys.executable, "-c", RUN, str(target), *tests],
        env={
            **os.environ,
            "LD_PRELOAD": runtime,
            # Leaks: Python's and torch's own are not ours to judge.
            "ASAN_OPTIONS": "detect_leaks=0",
            "UBSAN_OPTIONS": "halt_on_error=1,print_stacktrace=1",
        },
        cwd=SOURCES.parents[1],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|skipped)", result.stdout)}
    # Nearly all would be skipped if the build had not been taken.
    assert counts["passed"] > 100 * counts.get("skipped", 0)
