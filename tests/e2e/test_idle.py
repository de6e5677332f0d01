"""A server that has nothing to do does nothing."""

import time
from pathlib import Path

import pytest

from gateway.procfs import cpu_seconds
from tests.e2e.clients import RawStream, openai_client
from tests.e2e.server import Server, processes_of

pytestmark = pytest.mark.e2e

SECONDS = 10.0
# 1 % of a core.
MAX_CPU_SECONDS = 0.01 * SECONDS


def cpu_of(server: Server) -> float:
    return sum(cpu_seconds(pid) for pid in processes_of(server.session))


def test_idle_servers_use_less_than_1_percent_of_a_core(
    default_server: Server, tiny_model: Path
) -> None:
    """After traffic and a stream cut off, with one rank and with two."""
    with Server(tiny_model, "--tp", "2") as pair:
        for server in (default_server, pair):
            with openai_client(server.url) as client:
                model = client.models.list().data[0].id
                client.completions.create(model=model, prompt="Hello", max_tokens=16)
            body = {"model": model, "prompt": "Hello", "max_tokens": 400, "ignore_eos": True}
            with RawStream(server.url, body) as stream:
                next(stream.events())
        time.sleep(0.5)  # the end of the work is no part of the measurement
        before = cpu_of(default_server), cpu_of(pair)
        time.sleep(SECONDS)
        used = cpu_of(default_server) - before[0], cpu_of(pair) - before[1]
    assert max(used) < MAX_CPU_SECONDS
