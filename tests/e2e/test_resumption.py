"""A killed rank costs its group's requests a pause: nothing lost, nothing twice, nothing changed.

With our own kernels, and in exact mode, a text depends on nothing but the request, so every answer
is compared with the one that the same server gives undisturbed.
"""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from backend.native import levels
from tests.backend.factories import write_tiny_llama
from tests.e2e.clients import RawStream, request
from tests.e2e.crowd import at_once, slow
from tests.e2e.server import Server, wait_until
from tests.level import forced_level

pytestmark = pytest.mark.e2e

LONG = 160
PATTERN = "([a-z]{3}[0-9]{2} ){24}"
# One of everything whose state must go on where it was.
REQUESTS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0, "seed": 6},
    "seeded": {"temperature": 1, "seed": 7},
    "filtered": {"temperature": 1.2, "seed": 8, "top_p": 0.95, "top_k": 50},
    "penalties": {
        "temperature": 0,
        "seed": 13,
        "frequency_penalty": 0.5,
        "repetition_penalty": 1.2,
    },
    "n-grams": {"temperature": 0, "seed": 14, "no_repeat_ngram_size": 2},
    "minimum": {"temperature": 1, "seed": 9, "ignore_eos": False, "min_tokens": LONG - 10},
    "choices": {"temperature": 1, "seed": 10, "n": 3},
    "scores": {"temperature": 1, "seed": 11, "logprobs": 3, "echo": True},
    "grammar": {
        "temperature": 1,
        "seed": 12,
        "ignore_eos": False,
        "structured_outputs": {"regex": PATTERN},
    },
}
# What ends a process by itself: at once, and in the middle of an answer.
POISON = ["segfault:seed=666:rank=1", "exit:seed=667:rank=0:position=30"]
Answer = tuple[list[str], list[list[int]], list[Any], list[str | None], dict[str, Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The default mode where our own kernels are, of a model whose heads they take; else exact."""
    is_ours = bool(levels()) and forced_level().settings.get("kernels") != "torch"
    folder = tmp_path_factory.mktemp("model") / "tiny"
    model = write_tiny_llama(folder, head_dim=16, max_model_len=16384)
    settings = [] if is_ours else ["--exact", "--dtype", "float32"]
    settings += ["--tp", "2", "--dp", "2", "--max-num-seqs", "32"]
    faults = " ".join([*POISON, slow(REQUESTS.values())])
    settings += ["--kv-cache-bytes", str(1 << 24), "--test-faults", faults]
    # Deaths a second ago are forgotten: neither the back-off nor the limit matters here.
    settings += ["--restart-window-s", "1"]
    with Server(model, *settings) as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(server: Server) -> dict[str, Answer]:
    """What the server answers when nothing dies."""
    return ask_all(server)


def ask(server: Server, fields: dict[str, Any], on_chunk: Callable[[], None]) -> Answer:
    """Stream one request; return texts, token ids, scores and finish reasons by choice, usage."""
    body = {
        "model": "tiny",
        "prompt": "a b c d e f",
        "max_tokens": LONG,
        "ignore_eos": True,
        "return_token_ids": True,
        "stream_options": {"include_usage": True},
        **fields,
    }
    size = body.get("n", 1)
    texts = [""] * size
    reasons: list[str | None] = [None] * size
    ids: list[list[int]] = [[] for _ in range(size)]
    scores: list[Any] = []
    usage: dict[str, Any] = {}
    with RawStream(server.url, body) as stream:
        for chunk in stream.chunks():
            assert "error" not in chunk, chunk
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                texts[choice["index"]] += choice["text"]
                ids[choice["index"]] += choice.get("token_ids") or []
                reasons[choice["index"]] = choice["finish_reason"]
                if choice.get("logprobs"):
                    scores += choice["logprobs"]["token_logprobs"]
            on_chunk()
    usage.pop("prompt_tokens_details", None)  # the cache is another by then
    return texts, ids, scores, reasons, usage


def ask_all(server: Server, disturb: Callable[[], None] | None = None) -> dict[str, Answer]:
    """Send all requests at once; disturb as soon as each has had some tokens."""
    asks = [partial(ask, server, fields) for fields in REQUESTS.values()]
    return dict(zip(REQUESTS, at_once(asks, disturb), strict=True))


def post(server: Server, body: bytes) -> tuple[int, dict[str, str], Any]:
    return request(server.url, "POST", "/v1/completions", body)


def is_whole(server: Server) -> bool:
    """Whether both groups take work and hold none."""
    groups = request(server.url, "GET", "/health")[2]["groups"]
    return len(groups) == 2 and all(
        group["ready"] and group["free_blocks"] == group["total_blocks"] for group in groups
    )


def test_answers_are_those_of_an_undisturbed_run(
    server: Server, undisturbed: dict[str, Answer]
) -> None:
    assert re.fullmatch(PATTERN, undisturbed["grammar"][0][0])
    before = server.processes

    def kill_a_lead_and_then_a_follower() -> None:
        os.kill(server.processes["unisono: rank 0.0"], signal.SIGKILL)
        wait_until(
            lambda: server.processes.get("unisono: rank 0.1") != before["unisono: rank 0.1"],
            60,
            "the rest of the group follows",
        )
        os.kill(server.processes["unisono: rank 1.1"], signal.SIGKILL)

    disturbed = ask_all(server, kill_a_lead_and_then_a_follower)
    for name, answer in undisturbed.items():
        assert disturbed[name] == answer, name
    wait_until(lambda: is_whole(server), 180, "both groups are back, and nothing is left in them")


@pytest.mark.parametrize("seed", [666, pytest.param(667, marks=pytest.mark.slow)])
def test_poison_ends_after_two_deaths_and_bystanders_finish(
    server: Server, undisturbed: dict[str, Answer], seed: int
) -> None:
    wait_until(lambda: is_whole(server), 180, "both groups are there")
    body = {"model": "tiny", "prompt": "a b", "max_tokens": 60, "ignore_eos": True, "seed": seed}
    poison = json.dumps(body).encode()
    with ThreadPoolExecutor(1) as thread:
        poisoned: list[Future[tuple[int, dict[str, str], Any]]] = []
        answers = ask_all(server, lambda: poisoned.append(thread.submit(post, server, poison)))
        status, headers, answer = poisoned[0].result()
    assert answers == undisturbed
    assert (status, headers["x-should-retry"]) == (500, "false")
    assert answer["error"]["code"] == "engine_error"
    wait_until(lambda: is_whole(server), 180, "both groups are back")
    before = server.processes
    status, headers, _ = post(server, poison)
    assert (status, headers["x-should-retry"]) == (500, "false")
    assert server.processes == before, "a retry reaches no group"
