"""A killed rank of a model whose layers keep states: answers go on as if nothing had died.

The states died with it; the other group computes them again from the tokens.
"""

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.native import absence, kernels
from tests.backend.factories import tiny_config, write_tokenizer
from tests.backend.models.delta_cases import DELTA_NETS
from tests.backend.models.family_cases import TinyModel
from tests.backend.models.mamba_cases import OWN_KERNELS
from tests.backend.models.state_cases import LONG as SHORT_CONVOLUTIONS
from tests.e2e.clients import metrics
from tests.e2e.server import Server, wait_until
from tests.e2e.test_resumption import Answer, ask, is_whole

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(kernels is None, reason=absence)]

CASES = {"qwen3_5": DELTA_NETS["qwen3_5"], "lfm2": SHORT_CONVOLUTIONS["lfm2"]} | OWN_KERNELS
EVERY_TIME = ("qwen3_5", "granitemoehybrid")
VOCABULARY = 320
LONG = 200
REQUESTS: list[dict[str, Any]] = [
    {
        "model": "model",
        "max_tokens": LONG,
        "prompt": "a b c d e f" * (1 + 9 * number),
        "temperature": number % 2,
        "seed": number,
    }
    for number in range(4)
]
# A step takes less than a millisecond: all would be over before the last has begun.
SLOW = " ".join(f"slow:seed={fields['seed']}" for fields in REQUESTS)


def write(name: str, folder: Path) -> Path:
    """A tiny model of a family that has words for every byte."""
    case = CASES[name]
    case = replace(case, fields=case.fields | {"vocab_size": VOCABULARY}, twin=None)
    path = TinyModel(case, folder).path
    write_tokenizer(path, tiny_config(vocab_size=VOCABULARY))
    return path


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[] if name in EVERY_TIME else pytest.mark.slow)
        for name in sorted(CASES)
    ],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    path = write(request.param, tmp_path_factory.mktemp("states"))
    settings = ["--dp", "2", "--kv-cache-bytes", str(1 << 24), "--restart-window-s", "1"]
    settings += ["--test-faults", SLOW]
    with Server(path, *settings) as server:
        yield server


def ask_all(server: Server, *, kills: bool) -> list[Answer]:
    """Send all requests at once; kill a group's rank as soon as each has had some tokens."""
    has_begun = [threading.Event() for _ in REQUESTS]

    def stream(number: int) -> Answer:
        counter = itertools.count()
        note = has_begun[number].set
        return ask(server, REQUESTS[number], lambda: note() if next(counter) == 8 else None)

    with ThreadPoolExecutor(len(REQUESTS)) as threads:
        answers = [threads.submit(stream, number) for number in range(len(REQUESTS))]
        for event in has_begun:
            assert event.wait(60)
        if kills:
            assert not any(answer.done() for answer in answers), "over before the crash"
            os.kill(server.processes["unisono: rank 0.0"], signal.SIGKILL)
        return [answer.result() for answer in answers]


def test_answers_are_those_of_an_undisturbed_run(server: Server) -> None:
    undisturbed = ask_all(server, kills=False)
    assert ask_all(server, kills=True) == undisturbed
    wait_until(lambda: is_whole(server), 60, "both groups are back, and nothing is left in them")
    # The other has told nothing since it is back.
    figures = metrics(server.url)
    assert figures['unisono_state_slots{group="1"}'] == 0
    assert figures['unisono_state_snapshots{group="1"}'] > 0
