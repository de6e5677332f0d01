"""The pool of threads, driven by threads_stress.c: as it is, and under ThreadSanitizer."""

import shutil
import subprocess
from pathlib import Path

import pytest

import backend.native
from backend.native import absence, kernels

SOURCES = Path(backend.native.__file__).parent
FLAGS = "gcc -std=c11 -O2 -Wall -Wextra -Werror -pthread".split()
# A call that hangs, for want of a wake-up, would do so for ever.
TIMEOUT_S = 120

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def build(folder: Path, *flags: str) -> Path:
    """Compile the stress program; `flags` are for the pool, too."""
    target = folder / "stress"
    sources = [SOURCES / "threads.c", Path(__file__).parent / "threads_stress.c"]
    command = [*FLAGS, *flags, f"-I{SOURCES}", *map(str, sources), "-o", str(target)]
    subprocess.run(command, check=True)
    return target


@pytest.fixture(scope="module")
def stress(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("stress"))


def check(program: Path, case: str, threads: int, calls: int) -> None:
    command = [str(program), case, str(threads), str(calls)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert run.returncode == 0, run.stderr[-3000:]


@needs_gcc
@pytest.mark.parametrize("threads", range(1, 9))
def test_each_task_runs_once_with_number_of_its_thread(stress: Path, threads: int) -> None:
    check(stress, "many_jobs", threads, 500)


@needs_gcc
@pytest.mark.parametrize("threads", [2, 5])
def test_late_thread_never_runs_task_of_ended_job(stress: Path, threads: int) -> None:
    check(stress, "short_jobs", threads, 100_000)


@needs_gcc
@pytest.mark.parametrize("threads", [2, 5])
def test_threads_asleep_are_woken_for_job(stress: Path, threads: int) -> None:
    check(stress, "meetings", threads, 200)


@needs_gcc
@pytest.mark.parametrize("threads", [1, 3])
def test_jobs_that_run_as_one_keep_their_tasks(stress: Path, threads: int) -> None:
    check(stress, "joined", threads, 500)


@needs_gcc
def test_number_of_threads_changes_between_jobs(stress: Path) -> None:
    check(stress, "resized", 6, 60)


@needs_gcc
@pytest.mark.parametrize("case", ["nested", "beside_each_other"])
def test_jobs_beside_job_run_on_their_callers_thread(stress: Path, case: str) -> None:
    check(stress, case, 3, 100)


@needs_gcc
@pytest.mark.parametrize("flags", [[], ["-DWITHOUT_FUTEX"]])
def test_child_of_fork_has_threads_of_its_own(tmp_path: Path, flags: list[str]) -> None:
    check(build(tmp_path, *flags), "forked", 3, 20)


@needs_gcc
def test_caller_runs_tasks_alone_where_no_thread_starts(tmp_path: Path) -> None:
    """So it does where those that have started are not run in time."""
    check(build(tmp_path, "-Dpthread_create=start_none"), "many_jobs", 4, 50)


@pytest.mark.slow
@needs_gcc
@pytest.mark.parametrize("flags", [[], ["-DWITHOUT_FUTEX"]])
def test_thread_sanitizer_finds_no_race(tmp_path: Path, flags: list[str]) -> None:
    """Without "forked": the sanitizer takes no threads in the child of a process that has some."""
    program = build(tmp_path, "-g", "-fsanitize=thread", *flags)
    for case, calls in [
        ("many_jobs", 200),
        ("short_jobs", 20_000),
        ("meetings", 200),
        ("resized", 30),
        ("nested", 30),
        ("beside_each_other", 50),
    ]:
        for threads in (2, 5):
            check(program, case, threads, calls)


@pytest.mark.skipif(kernels is None, reason=absence)
def test_number_of_threads_is_what_was_asked_for() -> None:
    before = kernels.num_threads()
    try:
        for asked, had in [(3, 3), (1, 1), (0, 1), (1000, 256)]:
            backend.native.set_num_threads(asked)
            assert kernels.num_threads() == had
    finally:
        backend.native.set_num_threads(before)
