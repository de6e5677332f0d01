"""The kernels' numerics on the card: the tests that run in Triton's interpreter elsewhere."""

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.bench.gpu.packages import ROOT, environment, missing

# They compile kernels for cards, and need none.
LEFT_OUT = "tests/backend/ops/triton/test_compiled.py"


class KernelResults(msgspec.Struct):
    """How many tests passed, failed and were skipped; of those that failed, names and words. place:
    where the kernels ran."""

    passed: int
    failed: int
    skipped: int
    failures: list[str]
    place: str = ""


MARKS = "numerics or not (e2e or slow)"


def measure_kernels(
    tests: Sequence[str], marks: str = MARKS, *, interprets: bool = False
) -> KernelResults:
    """Run the tests. Raises RuntimeError if none ran.

    tests: patterns of paths below tests/backend, each of which must be of something. interprets: on
    the host; else on the card, whatever a machine looks like. Where pytest-xdist is there several
    processes share the card, since compiling is what takes time; what fails then has a second go in
    one.
    """
    place = "in Triton's interpreter" if interprets else "on the card"
    env = environment() | {"TRITON_INTERPRET": "1" if interprets else "0"}
    folder = ROOT / "tests" / "backend"
    for each in tests:
        if not any(folder.glob(each)):
            raise RuntimeError(f"no tests are {each} any more")
    paths = sorted(str(path.relative_to(ROOT)) for each in tests for path in folder.glob(each))
    with tempfile.TemporaryDirectory() as directory:

        def run(*options: str) -> KernelResults:
            report = Path(directory) / "report.xml"
            report.unlink(missing_ok=True)
            command = [
                sys.executable, "-m", "tests.bench.gpu.launch", "pytest", "-o", "addopts=", "-q",
                "-W", "default", "--continue-on-collection-errors", "-m", marks,
                "-o", f"cache_dir={directory}/cache",
                f"--ignore={LEFT_OUT}", f"--junitxml={report}", *options, *paths,
            ]  # fmt: skip
            done = subprocess.run(
                command, cwd=ROOT, env=env, capture_output=True, text=True, check=False
            )
            if not report.exists():
                raise RuntimeError(f"pytest did not run: {(done.stderr or done.stdout)[-400:]}")
            results = results_of(report)
            results.place = place
            return results

        workers = 1 if missing(("xdist",)) else min(8, (os.cpu_count() or 1) // 2)
        if workers < 2:
            return run()
        first = run("-n", str(workers))
        if not first.failed:
            return first
        alone = run("--last-failed", "--last-failed-no-failures=none")
        alone.passed += first.passed
        alone.skipped += first.skipped
        return alone


def results_of(report: Path) -> KernelResults:
    """Read what pytest wrote."""
    results = KernelResults(0, 0, 0, [])
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        faults = [each for each in case if each.tag in ("failure", "error")]
        if faults:
            results.failed += 1
            name = f"{case.get('classname')}::{case.get('name')}"
            results.failures.append(f"{name}: {(faults[0].get('message') or '')[:160]}")
        elif case.find("skipped") is not None:
            results.skipped += 1
        else:
            results.passed += 1
    return results
