"""The only group dies; who asks meanwhile waits for it instead of being sent away."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import RawStream, post, request
from tests.e2e.server import Server, wait_until

pytestmark = pytest.mark.e2e

FIELDS = {"model": "tiny", "prompt": [5, 6], "max_tokens": 5, "temperature": 0}


def kill_group(server: Server) -> None:
    os.kill(server.processes["unisono: rank 0.0"], signal.SIGKILL)
    wait_until(lambda: request(server.url, "GET", "/readyz")[0] == 503, 60, "it is noticed")


def test_new_requests_wait_for_the_group_to_come_back(tiny_model: Path) -> None:
    """They got 503 while it started again."""
    with Server(tiny_model) as server:
        before = post(server.url, "/v1/completions", **FIELDS)
        kill_group(server)
        answers: list[tuple[int, Any]] = []
        thread = threading.Thread(
            target=lambda: answers.append(post(server.url, "/v1/completions", **FIELDS))
        )
        thread.start()
        with RawStream(server.url, FIELDS) as stream:
            events = list(stream.events())
        thread.join()
    assert events[-1] == b"data: [DONE]"
    [(status, answer)] = answers
    assert status == before[0] == 200
    assert answer["choices"] == before[1]["choices"]


def test_wait_is_no_longer_than_the_queue_may_be(tiny_model: Path) -> None:
    with Server(tiny_model, "--queue-seconds", "0.2") as server:
        kill_group(server)
        status, _, answer = request(
            server.url, "POST", "/v1/completions", b'{"model": "tiny", "prompt": "a"}'
        )
    assert (status, answer["error"]["code"]) == (503, "not_ready")
