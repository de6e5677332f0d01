"""Two groups of two ranks: what each fault of a rank leads to, seen from outside."""

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import RawStream, request
from tests.e2e.control import listing
from tests.e2e.crowd import SLOW_SEED, SLOWLY
from tests.e2e.server import Server, processes_of, wait_until
from tests.e2e.steady import steadily

pytestmark = pytest.mark.e2e

# A back-off of two seconds, and loading beside a group that works.
RESTART_SECONDS = 180.0
KILL_SECONDS = 0.1
HANG_SECONDS = 3.0
# Two cores compute, watch and test.
SLACK_SECONDS = 0.4


@pytest.fixture(scope="module")
def square(tiny_model: Path) -> Iterator[Server]:
    """2 x 2. The tests leave it whole again."""
    arguments = ["--tp", "2", "--dp", "2", "--restart-limit", "100"]
    arguments += ["--hang-seconds", str(HANG_SECONDS)]
    with Server(tiny_model, *arguments, *SLOWLY, "--kv-cache-bytes", str(1 << 24)) as server:
        yield server


def body(max_tokens: int) -> dict[str, Any]:
    return {"model": "tiny", "prompt": "Hello", "max_tokens": max_tokens, "ignore_eos": True}


def ready_groups(server: Server) -> set[int]:
    _, _, health = request(server.url, "GET", "/health")
    return {group["group"] for group in health["groups"] if group["ready"]}


def wait_until_whole(server: Server) -> None:
    wait_until(lambda: ready_groups(server) == {0, 1}, RESTART_SECONDS, "both groups are ready")


def wait_for_words(server: Server, pattern: str) -> None:
    """Wait for the log to say something."""
    wait_until(lambda: bool(re.search(pattern, server.stderr)), 60, pattern)


@contextlib.contextmanager
def a_stream_on_each_group(server: Server) -> Iterator[None]:
    """The group with more credit takes the next request."""
    fields = body(16000) | {"seed": SLOW_SEED}
    with RawStream(server.url, fields) as one, RawStream(server.url, fields) as other:
        next(one.events())
        next(other.events())
        yield


def test_killed_rank_ends_its_group_at_once_and_no_other(square: Server) -> None:
    def kill() -> tuple[dict[str, int], dict[str, int]]:
        """Return the processes before and after."""
        wait_until_whole(square)
        before, num_deaths = square.processes, len(re.findall(report, square.stderr))
        with a_stream_on_each_group(square):
            killed = time.monotonic()
            os.kill(before["unisono: rank 0.1"], signal.SIGKILL)
            wait_until(lambda: ready_groups(square) == {1}, 60, "the pool has lost it")
            took_s = time.monotonic() - killed
        wait_until(lambda: len(re.findall(report, square.stderr)) > num_deaths, 60, report)
        wait_until_whole(square)
        assert took_s < KILL_SECONDS + SLACK_SECONDS
        return before, square.processes

    report = r"group 0 died: rank 0\.1 killed by SIGKILL; in (?:step|idle), step \d+"
    before, after = steadily(kill)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"unisono: rank 0.0", "unisono: rank 0.1"}


def test_stopped_rank_is_found_and_every_other_tells_where_it_is(square: Server) -> None:
    def stop() -> None:
        wait_until_whole(square)
        num_before = len(re.findall(report, square.stderr))
        with a_stream_on_each_group(square):
            os.kill(square.processes["unisono: rank 1.1"], signal.SIGSTOP)
            wait_until(lambda: ready_groups(square) == {0}, 60, "the pool has lost it")
        wait_until(lambda: len(re.findall(report, square.stderr)) > num_before, 60, report)
        # The supervisor's own measure counts: on a busy machine the news takes its time.
        seconds = float(re.findall(report, square.stderr)[-1])
        assert HANG_SECONDS <= seconds < HANG_SECONDS + 1

    report = r"group 1 died: rank 1\.1 made no progress for (\d+\.\d) s \(stopped by a signal\)"
    steadily(stop)
    wait_for_words(square, r"rank 1\.0: .*distributed/shm\.py")
    wait_until_whole(square)


def test_killed_supervisor_takes_newborn_ranks_with_it(square: Server) -> None:
    """A rank ties itself to its supervisor a second after it was spawned; the kernel must not
    wait for it. The last test of this server: it does not survive."""
    wait_until_whole(square)
    words = "WARNING supervisor: group 0 starts again"
    count = square.stderr.count(words)
    os.kill(square.processes["unisono: rank 0.0"], signal.SIGKILL)
    wait_until(lambda: square.stderr.count(words) > count, 60, words)
    num_processes = len(processes_of(square.session))
    wait_until(lambda: len(processes_of(square.session)) > num_processes, 60, "it is born again")
    square.send(signal.SIGKILL)
    square.wait()
    square.check_nothing_left()


def test_dying_groups_are_given_up_and_the_last_ends_all(tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["--dp", "2", "--restart-limit", "0", "--kv-cache-bytes", str(1 << 24)]
    arguments += ["--control-socket", str(tmp_path / "sock"), "--test-faults", "error:seed=5"]
    with Server(tiny_model, *arguments) as server:
        os.kill(server.processes["unisono: rank 0.0"], signal.SIGKILL)
        wait_for_words(server, "ERROR supervisor: group 0 died too often and is given up")
        given_up, other = listing(tmp_path / "sock").groups
        assert (given_up.state, given_up.deaths, other.state) == ("given up", 1, "ready")
        fault = given_up.last_fault
        assert fault is not None and (fault.rank, fault.cause) == ("rank 0.0", "killed by SIGKILL")
        with RawStream(server.url, body(4)) as stream:
            assert list(stream.events())[-1] == b"data: [DONE]"
        with RawStream(server.url, {**body(4), "seed": 5}), contextlib.suppress(ConnectionError):
            assert server.wait() == 1
    said = r"rank 1\.0 exited with status 1: InjectedFault: a fault that a test asked for; in step,"
    batch = r" step \d+ of 1 sequences and \d+ tokens; new or changed: 0:2; last said: .*Injected"
    assert re.search(f"group 1 died: {said}{batch}", server.stderr)
    assert re.search(r"WARNING supervisor: rank 1\.0: Traceback", server.stderr)
    assert "no group is left" in server.stderr
