"""A group whose layers are shared out over stages: text, scores and deaths as with one rank."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.backend.factories import write_tiny_llama
from tests.e2e.clients import request
from tests.e2e.crowd import at_once, slow
from tests.e2e.server import Server, refused_start
from tests.e2e.test_resumption import REQUESTS, Answer, ask

pytestmark = pytest.mark.e2e

COMMON = ["--max-num-seqs", "32", "--kv-cache-bytes", str(1 << 24), "--restart-window-s", "1"]
KINDS = {name: REQUESTS[name] for name in ("greedy", "filtered", "choices", "scores", "grammar")}
LENGTH = {"max_tokens": 80, "prompt": "a b c d " * 30}


def ask_all(server: Server, disturb: Callable[[], None] | None = None) -> dict[str, Answer]:
    """Send one request of each kind at once; disturb when each has had some tokens."""
    asks = [partial(ask, server, {**LENGTH, **fields}) for fields in KINDS.values()]
    return dict(zip(KINDS, at_once(asks, disturb), strict=True))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers, so that the stages are unlike; heads that our own kernels take."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return write_tiny_llama(folder, num_layers=3, head_dim=16, max_model_len=16384)


@pytest.fixture(scope="module")
def staged(model: Path) -> Iterator[Server]:
    with Server(model, "--pp", "2", "--test-faults", slow(KINDS.values()), *COMMON) as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(staged: Server) -> dict[str, Answer]:
    return ask_all(staged)


def test_answers_are_those_of_one_stage(model: Path, undisturbed: dict[str, Answer]) -> None:
    with Server(model, *COMMON) as whole:
        assert ask_all(whole) == undisturbed


@pytest.mark.parametrize("stage", [0, 1])
def test_death_of_a_stage_costs_time_alone(
    staged: Server, undisturbed: dict[str, Answer], stage: int
) -> None:
    def kill() -> None:
        os.kill(staged.processes[f"unisono: rank 0.{stage}"], signal.SIGKILL)

    before = staged.processes
    assert ask_all(staged, kill) == undisturbed
    ranks = ("unisono: rank 0.0", "unisono: rank 0.1")
    assert all(staged.processes[rank] != before[rank] for rank in ranks)


@pytest.mark.slow
def test_poison_in_a_later_stage_ends_after_two_deaths(model: Path) -> None:
    poison = "segfault:seed=666:rank=1"
    with Server(model, "--pp", "2", "--test-faults", poison, *COMMON) as server:
        body = json.dumps({"model": "tiny", "prompt": "a b", "max_tokens": 9, "seed": 666})
        status, _, answer = request(server.url, "POST", "/v1/completions", body.encode())
        assert (status, answer["error"]["code"]) == (500, "engine_error")


def test_start_says_which_layers_each_stage_has(staged: Server) -> None:
    assert "stage 0: the embedding, layer" in staged.stderr
    assert "the head" in staged.stderr


def test_more_stages_than_layers_are_refused(model: Path) -> None:
    words = refused_start(model, "--pp", "4")
    assert "--pp 4 is more stages than tiny has layers: use 1 to 3" in words
