"""Processes from the outside: their names, their orderly end, and what each death leads to."""

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import RawStream, request
from tests.e2e.crowd import FREED_SECONDS, SLOW_SEED, SLOWLY
from tests.e2e.server import Server, wait_until

pytestmark = pytest.mark.e2e

# The back-off of a second, and loading.
RESTART_SECONDS = 180.0
# Two seconds would do on cores that do nothing else.
DRAIN_SECONDS = "120"


@pytest.fixture(scope="module")
def tiny_pair(tiny_model: Path) -> Iterator[Server]:
    """Two ranks. The tests that kill some of its processes leave it whole again."""
    with Server(tiny_model, "--tp", "2", *SLOWLY) as server:
        yield server


def body(max_tokens: int) -> dict[str, Any]:
    """A request that takes 5 ms a token where SLOWLY is set, and so is running when it ends."""
    fields = {"model": "tiny", "prompt": "Hello", "max_tokens": max_tokens, "ignore_eos": True}
    return fields | {"seed": SLOW_SEED}


def is_ready(server: Server) -> bool:
    try:
        status, _, _ = request(server.url, "GET", "/readyz")
    except OSError:
        return False
    return status == 200


def completes(server: Server) -> bool:
    payload = json.dumps(body(4)).encode()
    status, _, answer = request(server.url, "POST", "/v1/completions", payload)
    return status == 200 and answer["usage"]["completion_tokens"] == 4


def test_every_process_names_itself(tiny_pair: Server) -> None:
    names = {"supervisor", "worker 0", "rank 0.0", "rank 0.1"}
    assert tiny_pair.processes.keys() == {f"unisono: {name}" for name in names}
    assert tiny_pair.processes["unisono: supervisor"] == tiny_pair.session


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_lets_streams_end_refuses_new_work_and_exits_0(
    tiny_model: Path, number: signal.Signals
) -> None:
    patient = Server(tiny_model, *SLOWLY, "--drain-seconds", DRAIN_SECONDS)
    with patient as server, RawStream(server.url, body(400)) as stream:
        events = stream.events()
        first = [next(events) for _ in range(10)]
        server.send(number)
        wait_until(lambda: not is_ready(server), 60, "not ready any more")
        try:
            payload = json.dumps(body(4)).encode()
            status, headers, answer = request(server.url, "POST", "/v1/completions", payload)
        except ConnectionError:
            pass
        else:
            assert (status, answer["error"]["type"]) == (503, "server_error")
            assert int(headers["retry-after"]) > 0
        rest = list(events)
        assert rest[-1] == b"data: [DONE]"
        last = json.loads(rest[-2].removeprefix(b"data: "))
        assert last["choices"][0]["finish_reason"] == "length"
        # A token that is half a character has no event of its own.
        assert len(first) + len(rest) > 100
        assert server.wait() == 0
        server.check_nothing_left()


def test_idle_server_stops_at_once_with_0(tiny_model: Path) -> None:
    with Server(tiny_model, "--drain-seconds", "600") as server:
        server.send(signal.SIGTERM)
        assert server.wait() == 0
        server.check_nothing_left()


def test_second_interrupt_does_not_wait_for_streams(tiny_model: Path) -> None:
    with Server(tiny_model, *SLOWLY) as server, RawStream(server.url, body(16000)) as stream:
        events = stream.events()
        next(events)
        server.send(signal.SIGINT)
        server.wait_for_line("unisono: stopping")
        server.send(signal.SIGINT)
        with pytest.raises(ConnectionError):
            for event in events:
                last = event
        server.wait()
        server.check_nothing_left()
    # It said that a process had died, and that its sequences went on elsewhere.
    assert b"The server was stopped." in last
    assert "unisono: stopping at once" in server.stderr
    assert "elsewhere" not in server.stderr and " is lost" not in server.stderr


@pytest.mark.parametrize(("tp", "is_streaming"), [(1, False), (1, True), (2, True)])
def test_killed_supervisor_leaves_nothing(tiny_model: Path, tp: int, is_streaming: bool) -> None:
    with Server(tiny_model, *SLOWLY, "--tp", str(tp)) as server:
        if is_streaming:
            with RawStream(server.url, body(16000)) as stream:
                next(stream.events())
                server.send(signal.SIGKILL)
                server.wait()
                server.check_nothing_left()
        else:
            server.send(signal.SIGKILL)
            server.wait()
            server.check_nothing_left()


def test_killed_rank_returns_and_its_streams_go_on(tiny_pair: Server) -> None:
    before = tiny_pair.processes
    with RawStream(tiny_pair.url, body(16000)) as stream:
        events = stream.events()
        next(events)
        os.kill(before["unisono: rank 0.1"], signal.SIGKILL)
        wait_until(lambda: not is_ready(tiny_pair), 60, "the group is gone")
        wait_until(lambda: is_ready(tiny_pair), RESTART_SECONDS, "the group is back")
        assert all(b'"error"' not in next(events) for _ in range(500))
    assert completes(tiny_pair)
    after = tiny_pair.processes
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"unisono: rank 0.0", "unisono: rank 0.1"}


def test_killed_gateway_is_replaced_and_the_ranks_stay(
    tiny_pair: Server,
) -> None:
    wait_until(lambda: is_ready(tiny_pair), RESTART_SECONDS, "whole before the test")
    before = tiny_pair.processes
    with RawStream(tiny_pair.url, body(16000)) as stream:
        next(stream.events())
        os.kill(before["unisono: worker 0"], signal.SIGKILL)
        with pytest.raises(ConnectionError):
            list(stream.events())
    wait_until(lambda: is_ready(tiny_pair), RESTART_SECONDS, "the worker is back")
    assert completes(tiny_pair)
    after = tiny_pair.processes
    assert {name for name in before if after[name] != before[name]} == {"unisono: worker 0"}
    wait_until(
        lambda: not is_running(tiny_pair), FREED_SECONDS, "the lost worker's stream is aborted"
    )


def is_running(server: Server) -> bool:
    _, _, health = request(server.url, "GET", "/health")
    [group] = health["groups"]
    return bool(group["running"] > 0 or group["free_blocks"] != group["total_blocks"])


def test_stream_that_runs_when_the_time_is_up_is_told(tiny_model: Path) -> None:
    """It was cut in the middle, and left a traceback in the log."""
    with Server(tiny_model, *SLOWLY, "--drain-seconds", "0.5") as server:
        with RawStream(server.url, body(16000)) as stream:
            events = stream.events()
            next(events)
            server.send(signal.SIGTERM)
            rest: list[bytes] = []
            with contextlib.suppress(ConnectionError):
                rest.extend(events)  # every kind of client is to notice
        assert server.wait() == 0
    assert b"The server was stopped." in rest[-1]
    assert "they are cut off" in server.stderr and "Traceback" not in server.stderr


def test_drain_ends_with_the_last_of_several_streams(tiny_model: Path) -> None:
    with Server(tiny_model, *SLOWLY, "--drain-seconds", DRAIN_SECONDS) as server:
        finished: list[bytes] = []
        started = threading.Barrier(5)

        def read() -> None:
            with RawStream(server.url, body(200)) as stream:
                events = stream.events()
                next(events)
                started.wait(120)
                finished.append(list(events)[-1])

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        started.wait(120)
        server.send(signal.SIGTERM)
        status = server.wait(timeout_s=float(DRAIN_SECONDS))
        for reader in readers:
            reader.join()
    assert status == 0
    assert finished == [b"data: [DONE]"] * 4
