"""What the kernel tells of processes that live, die and are gone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from gateway.procfs import (
    command_line,
    cpu_seconds,
    dying_code,
    effort,
    is_stopped,
    machine_cpu_seconds,
    num_threads,
    of_session,
    pss_bytes,
    rss_bytes,
    written_bytes,
)
from tests.e2e.server import wait_until


def test_death_is_seen_before_the_process_is_reaped() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert dying_code(process.pid) is None
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: dying_code(process.pid) is not None, 60, "it dies")
    assert dying_code(process.pid) == -signal.SIGKILL
    process.communicate()
    assert dying_code(process.pid) is None


def test_status_of_an_exit_is_told() -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    wait_until(lambda: dying_code(process.pid) is not None, 60, "it exits")
    assert dying_code(process.pid) == 3
    process.wait()


def test_process_that_is_gone_has_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    assert (rss_bytes(process.pid), num_threads(process.pid)) == (0, 0)
    assert effort(process.pid) is None
    assert not is_stopped(process.pid)


def test_work_and_reading_count_as_effort_and_waiting_does_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3 << 20))
    program = f"print(); input(); open({str(tmp_path / 'file')!r}, 'rb').read(); print(); input()"
    command = [sys.executable, "-uc", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        before, same = effort(process.pid), effort(process.pid)
        assert before is not None and same is not None and same - before < 0.1
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        after = effort(process.pid)
        assert after is not None and 3 <= after - before < 10
        process.communicate(b"\n")


def test_machine_has_worked_at_least_as_long_as_this_process() -> None:
    before = machine_cpu_seconds()
    assert before > cpu_seconds(os.getpid())
    assert machine_cpu_seconds() >= before


def test_processes_of_a_session_are_found_by_it() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    command = [sys.executable, "-c", program]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    wanted = f"{sys.executable} -c input()"

    def commands() -> dict[str, int]:
        return {command_line(pid): pid for pid in of_session(process.pid)}

    wait_until(lambda: wanted in commands(), 60, "its child runs")
    child = commands()[wanted]
    assert set(of_session(process.pid)) == {process.pid, child}
    assert 0 < pss_bytes(process.pid) <= rss_bytes(process.pid)
    assert 0 < written_bytes(process.pid) < pss_bytes(process.pid)
    process.communicate(b"\n")
    assert of_session(process.pid) == []
    assert (pss_bytes(child), command_line(child)) == (0, "")
