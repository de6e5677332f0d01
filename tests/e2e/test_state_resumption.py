"""A killed rank of a model whose layers keep states: answers go on as if nothing had died.

The states died with it; the other group computes them again from the tokens.
"""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
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
from tests.e2e.crowd import at_once, slow
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
    settings += ["--test-faults", slow(REQUESTS)]
    with Server(path, *settings) as server:
        yield server


def ask_all(server: Server, disturb: Callable[[], None] | None = None) -> list[Answer]:
    """Send all requests at once; disturb as soon as each has had some tokens."""
    return at_once([partial(ask, server, fields) for fields in REQUESTS], disturb)


def test_answers_are_those_of_an_undisturbed_run(server: Server) -> None:
    def kill() -> None:
        os.kill(server.processes["unisono: rank 0.0"], signal.SIGKILL)

    undisturbed = ask_all(server)
    assert ask_all(server, kill) == undisturbed
    wait_until(lambda: is_whole(server), 180, "both groups are back, and nothing is left in them")
    # The other has told nothing since it is back.
    figures = metrics(server.url)
    assert figures['unisono_state_slots{group="1"}'] == 0
    assert figures['unisono_state_snapshots{group="1"}'] > 0
