"""`unisono ctl` against a server at work: groups come and go, and no request is lost."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.e2e.clients import RawStream
from tests.e2e.control import ctl, listing
from tests.e2e.server import Server

pytestmark = pytest.mark.e2e

MAX_TOKENS = 80


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ctl") / "unisono.sock"


@pytest.fixture(scope="module")
def server(tiny_model: Path, socket_path: Path) -> Iterator[Server]:
    """Two groups and two workers. Each test leaves two groups that serve."""
    arguments = ["--dp", "2", "--workers", "2", "--kv-cache-bytes", str(1 << 24)]
    with Server(tiny_model, *arguments, "--control-socket", socket_path) as server:
        yield server


def states(socket_path: Path) -> dict[int, str]:
    return {group.group: group.state for group in listing(socket_path).groups}


@contextlib.contextmanager
def load(server: Server) -> Iterator[list[Any]]:
    """Three clients, one request after another; yields what went wrong."""
    failures: list[Any] = []
    counts = [0, 0, 0]
    is_over = threading.Event()
    body = {"model": "tiny", "prompt": "Hello", "max_tokens": MAX_TOKENS, "ignore_eos": True}

    def run(client: int) -> None:
        while not is_over.is_set() or counts[client] == 0:
            try:
                with RawStream(server.url, body) as stream:
                    events = list(stream.events())
            except (ConnectionError, AssertionError) as error:
                failures.append(error)
                return
            last = msgspec.json.decode(events[-2].removeprefix(b"data: "))
            if last["choices"][0]["finish_reason"] != "length" or events[-1] != b"data: [DONE]":
                failures.append(events[-2:])
            counts[client] += 1

    clients = [threading.Thread(target=run, args=(client,)) for client in range(3)]
    for client in clients:
        client.start()
    try:
        yield failures
    finally:
        is_over.set()
        for client in clients:
            client.join()
    assert min(counts) > 0


def test_list_shows_every_process(server: Server, socket_path: Path) -> None:
    assert socket_path.stat().st_mode & 0o777 == 0o600
    found = listing(socket_path)
    pids = {"unisono: supervisor": found.pid}
    for group in found.groups:
        assert group.state == "ready" and group.free_blocks == group.total_blocks > 0
        for rank in group.ranks:
            assert (rank.phase, rank.device) == ("idle", "cpu")
            assert rank.rss_bytes > 10**7 and rank.threads > 0 and rank.seconds < 60
            pids[f"unisono: rank {group.group}.{rank.rank}"] = rank.pid
            assert Path(f"/proc/{rank.pid}/oom_score_adj").read_text() == "500\n"
    for worker in found.workers:
        assert worker.serves == [0, 1]
        pids[f"unisono: worker {worker.worker}"] = worker.pid
    named = server.processes
    assert {name: named[name] for name in pids} == pids
    assert found.url == server.url


def test_groups_come_and_go_under_load_and_no_request_is_lost(
    server: Server, socket_path: Path
) -> None:
    before = server.processes
    with load(server) as failures:
        status, words = ctl(socket_path, "drain", "0")
        assert (status, words.splitlines()[-1]) == (0, "group 0 has stopped")
        assert states(socket_path) == {0: "stopped", 1: "ready"}
        status, words = ctl(socket_path, "restart", "0")
        assert status == 0, words
        status, words = ctl(socket_path, "add")
        assert (status, words.splitlines()[-1]) == (0, "group 2 serves")
        status, words = ctl(socket_path, "remove", "1")
        assert (status, words.splitlines()[-1]) == (0, "group 1 has been removed")
        assert states(socket_path) == {0: "ready", 2: "ready"}
        status, words = ctl(socket_path, "restart", "--rolling")
        assert (status, words.splitlines()[-1]) == (0, "all groups have been restarted")
    assert not failures
    after = server.processes
    assert after.keys() == (before.keys() - {"unisono: rank 1.0"}) | {"unisono: rank 2.0"}
    assert after["unisono: rank 0.0"] != before["unisono: rank 0.0"]
    assert after["unisono: worker 0"] == before["unisono: worker 0"]


def test_operations_can_be_repeated_and_wrong_numbers_are_named(
    server: Server, socket_path: Path
) -> None:
    number = max(states(socket_path))
    assert ctl(socket_path, "drain", str(number))[0] == 0
    assert ctl(socket_path, "drain", str(number)) == (0, f"group {number} has stopped\n")
    status, words = ctl(socket_path, "drain", "77")
    assert status == 1 and words.startswith("unisono: there is no group 77; there are: 0, ")
    status, words = ctl(socket_path, "drain", "x")
    assert status == 2 and "group must be a number, not 'x'" in words
    status, words = ctl(socket_path, "restart")
    assert status == 2 and "--rolling" in words
    status, words = ctl(socket_path, "logs")
    assert status == 0 and f"asked for: drain {number}" in words
    assert "WARNING supervisor: there is no group 77" in words
    assert ctl(socket_path, "restart", str(number))[0] == 0
    _, words = ctl(socket_path, "logs")
    assert f"group {number} is ready" in words and f"group {number} has been restarted" in words


def test_no_server_is_told_in_a_line(tmp_path: Path) -> None:
    status, words = ctl(tmp_path / "none.sock", "list")
    assert status == 1
    assert (
        words == f"unisono: no server answers at {tmp_path}/none.sock: No such file or directory\n"
    )


def test_socket_is_gone_after_the_server(server: Server, socket_path: Path) -> None:
    """The last test here: it leaves no server."""
    os.kill(server.session, 15)
    assert server.wait() == 0
    assert not socket_path.exists()
