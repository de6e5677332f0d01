"""/metrics of a whole server: two workers, any of which answers for all."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import metrics, request
from tests.e2e.server import Server, wait_until

pytestmark = pytest.mark.e2e

PROMPTS, TOKENS = 12, 5


@pytest.fixture(scope="module")
def pair(tiny_model: Path) -> Iterator[Server]:
    with Server(tiny_model, "--workers", "2") as server:
        yield server


def complete(server: Server) -> None:
    fields = {"model": "tiny", "prompt": "Hello", "max_tokens": TOKENS, "ignore_eos": True}
    status, _, _ = request(server.url, "POST", "/v1/completions", json.dumps(fields).encode())
    assert status == 200


def test_any_worker_answers_for_all_through_the_death_of_one(pair: Server) -> None:
    before = metrics(pair.url)["unisono_generation_tokens_total"]
    for _ in range(PROMPTS):
        complete(pair)
    total = before + PROMPTS * TOKENS

    def agree() -> bool:
        scrapes = [metrics(pair.url)["unisono_generation_tokens_total"] for _ in range(8)]
        return set(scrapes) == {total}

    wait_until(agree, 60, "all scrapes show the same total")
    os.kill(pair.processes["unisono: worker 0"], signal.SIGKILL)
    wait_until(lambda: "unisono: worker 0" in pair.processes, 60, "the worker is replaced")
    restarts = 'unisono_worker_restarts_total{worker="0"}'
    wait_until(lambda: metrics(pair.url)[restarts] == 1, 60, "the death is counted")
    wait_until(agree, 60, "the successor goes on counting")


def test_group_and_processes_are_shown(pair: Server) -> None:
    complete(pair)

    def found() -> dict[str, float]:
        return metrics(pair.url)

    wait_until(lambda: found()['unisono_num_requests_running{group="0"}'] == 0, 60, "idle")
    now = found()
    assert now['unisono_engine_generation_tokens_total{group="0"}'] >= TOKENS
    assert now['unisono_engine_step_seconds_total{group="0",phase="forward"}'] > 0
    usage = 'unisono_kv_cache_usage_perc{group="0"}'
    wait_until(lambda: found()[usage] == 0, 60, "no block is held")
    rank = '{group="0",process="rank 0.0",rank="0"}'
    assert now[f"unisono_process_resident_memory_bytes{rank}"] > 50e6
    assert now[f"unisono_process_cpu_seconds_total{rank}"] > 0


def test_top_prints_a_frame(pair: Server) -> None:
    complete(pair)
    command = [sys.executable, "-m", "gateway", "top", "--url", pair.url, "--once"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert run.returncode == 0, run.stderr
    assert "tiny" in run.stdout and "rank 0.0" in run.stdout and "ready" in run.stdout
