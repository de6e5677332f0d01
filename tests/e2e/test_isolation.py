"""A fault in what is one request's own ends that request alone, and changes no other's text.

Two ranks in exact mode, with faults injected on one of them or on both.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import RawStream, is_idle, request
from tests.e2e.server import Server, wait_until

pytestmark = pytest.mark.e2e

MAX_TOKENS = 40
GRAMMAR = {"structured_outputs": {"regex": "[a-z ]{200}"}}
# Each fault harms the request of its seed, which has these fields and gets so many tokens first.
FAULTY: dict[str, tuple[dict[str, Any], int]] = {
    "admission:seed=1001": ({}, 0),
    "rules:seed=1002:rank=1:position=20": ({}, 20),
    "rules:seed=1003:position=0": ({"temperature": 0, "frequency_penalty": 1}, 0),
    "grammar:seed=1004:position=20": (GRAMMAR, 20),
    "draw:seed=1005:position=20": ({"top_p": 0.9}, 20),
    "nan:seed=1006:rank=1:position=20": ({"temperature": 0}, 20),
    "nan:seed=1007:rank=0:position=1": ({"top_k": 5, "n": 2}, 1),
}
OTHERS: list[dict[str, Any]] = [
    {"seed": 1, "temperature": 0},
    {"seed": 2},
    {"seed": 3, "top_p": 0.9, "logprobs": 2},
    {"seed": 4, "frequency_penalty": 0.5, "repetition_penalty": 1.1},
    {"seed": 5, **GRAMMAR},
]


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Server]:
    settings = ("--exact", "--tp", "2", "--dtype", "float32", "--kv-cache-bytes", str(1 << 24))
    with Server(tiny_model, *settings, "--test-faults", " ".join(FAULTY)) as server:
        yield server


def ask(server: Server, fields: dict[str, Any]) -> tuple[list[int], dict[str, Any] | None]:
    """Stream one request; return the tokens of its first choice and the error event."""
    body = {
        "model": "tiny",
        "prompt": "a b c d",
        "max_tokens": MAX_TOKENS,
        "ignore_eos": True,
        "return_token_ids": True,
        **fields,
    }
    ids: list[int] = []
    with RawStream(server.url, body) as stream:
        if stream.status != 200:
            assert stream.headers["x-should-retry"] == "false"
            return [], {"status": stream.status}
        for chunk in stream.chunks():
            if "error" in chunk:
                return ids, chunk["error"]
            for choice in chunk["choices"]:
                if choice["index"] == 0:
                    ids += choice.get("token_ids") or []
    return ids, None


def test_fault_ends_one_request_and_changes_no_other(server: Server) -> None:
    alone = [ask(server, fields) for fields in OTHERS]
    assert all(error is None and len(ids) == MAX_TOKENS for ids, error in alone)
    ranks = {name: pid for name, pid in server.processes.items() if "rank" in name}
    for fault, (fields, num_before) in FAULTY.items():
        seed = int(fault.split("seed=")[1].split(":")[0])
        with ThreadPoolExecutor(len(OTHERS) + 1) as threads:
            others = [threads.submit(ask, server, fields) for fields in OTHERS]
            ids, error = threads.submit(ask, server, {"seed": seed, **fields}).result()
            assert [other.result() for other in others] == alone, fault
        assert error is not None, fault
        assert len(ids) == num_before, fault
        if "status" not in error:
            assert error["code"] == "engine_error"
            assert "InjectedFault" not in error["message"]
    assert ranks == {name: pid for name, pid in server.processes.items() if "rank" in name}
    wait_until(lambda: is_idle(server.url), 60, "all blocks are free")


def test_buffered_answer_says_that_a_retry_would_not_help(server: Server) -> None:
    body = b'{"model": "tiny", "prompt": "a", "seed": 1006, "max_tokens": 30, "ignore_eos": true}'
    status, headers, answer = request(server.url, "POST", "/v1/completions", body)
    assert (status, headers["x-should-retry"]) == (500, "false")
    assert answer["error"]["type"] == "server_error"
