"""A server that has nothing to do does nothing."""

import contextlib
import time
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.clients import RawStream, is_idle, openai_client
from tests.e2e.server import Server, processes_of, wait_until

pytestmark = pytest.mark.e2e

# The promise: a hundredth of a core.
MAX_SHARE = 0.01


def cpu_of(server: Server) -> float:
    """Seconds that its threads have run, to the nanosecond: ticks of 10 ms would be too coarse."""
    files = [
        file
        for pid in processes_of(server.session)
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat")
    ]
    spent = 0
    for file in files:
        with contextlib.suppress(OSError):  # a thread may end meanwhile
            spent += int(file.read_text().split()[0])
    return spent / 1e9


def test_idle_servers_use_less_than_1_percent_of_a_core(
    default_server: Server, tiny_model: Path
) -> None:
    """After traffic and a stream cut off, with one rank and with two.

    What passes the time is the start of a third server.
    """
    with Server(tiny_model, "--tp", "2") as pair:
        servers = (default_server, pair)
        for server in servers:
            with openai_client(server.url) as client:
                model = client.models.list().data[0].id
                client.completions.create(model=model, prompt="Hello", max_tokens=16)
            body = {"model": model, "prompt": "Hello", "max_tokens": 400, "ignore_eos": True}
            with RawStream(server.url, body) as stream:
                next(stream.events())
        for server in servers:
            wait_until(partial(is_idle, server.url), 60, "the work has ended")
        before, started = [cpu_of(server) for server in servers], time.monotonic()
        with Server(tiny_model):
            seconds = time.monotonic() - started
            used = [cpu_of(server) for server in servers]
    shares = [(now - then) / seconds for now, then in zip(used, before, strict=True)]
    assert max(shares) < MAX_SHARE
    assert min(shares) > 0, "the figures are there"
