"""What continuous batching, the prefix cache and chunked prefill must be worth, in time.

Ratios of times taken on the same server within seconds, so that a slow machine is no failure.
"""

import asyncio
import itertools
import random
import statistics
import threading
import time
from typing import Any

import pytest

from backend.placement.memory_plan import CPU_TOKEN_BUDGET
from gateway.bench.load import median_of, run_rounds
from gateway.bench.streamed_request import Target
from gateway.bench.workload import Workload
from tests.e2e.clients import RawStream
from tests.e2e.server import Server

pytestmark = pytest.mark.e2e

MODEL = "SmolLM2-135M-Instruct"
CHUNK_TOKENS = 256


def fresh_ids(count: int) -> list[int]:
    """A prompt that no cache has seen."""
    return random.Random().choices(range(1000, 40000), k=count)


def first_token(server: Server, prompt: list[int]) -> tuple[float, dict[str, Any]]:
    """Seconds to the first token of a prompt, and the usage."""
    body = {
        "model": MODEL,
        "prompt": prompt,
        "max_tokens": 1,
        "temperature": 0,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }
    started = time.perf_counter()
    with RawStream(server.url, body) as stream:
        chunks = stream.chunks()
        next(chunks)
        return time.perf_counter() - started, list(chunks)[-1]["usage"]


def test_16_streams_give_three_times_the_tokens_of_one(default_server: Server) -> None:
    target = Target.parse(default_server.url)
    workload = Workload(MODEL, prompt_tokens=32, max_tokens=32, prompt_ids=True)
    rounds = asyncio.run(run_rounds(target, workload, (1, 16), 3))
    one, many = (median_of(rounds[level]) for level in (1, 16))
    assert one.num_errors == many.num_errors == one.num_short == many.num_short == 0
    assert many.output_tokens_per_s >= 3 * one.output_tokens_per_s


def test_repeated_prompt_comes_from_the_cache_in_a_third_of_the_time(
    default_server: Server,
) -> None:
    prompts = [fresh_ids(1000) for _ in range(3)]
    first = [first_token(default_server, prompt) for prompt in prompts]
    again = [first_token(default_server, prompt) for prompt in prompts]
    assert all(usage["prompt_tokens_details"]["cached_tokens"] == 0 for _, usage in first)
    assert all(usage["prompt_tokens_details"]["cached_tokens"] > 900 for _, usage in again)
    medians = [statistics.median(seconds for seconds, _ in times) for times in (first, again)]
    assert medians[1] < medians[0] / 3


def test_long_prompt_stretches_a_streams_gaps_by_no_more_than_a_chunk(
    default_server: Server,
) -> None:
    """A chunk is measured at the end of a long prompt, where attention makes it slowest."""
    chunk_s = _last_chunk_seconds(default_server)
    body = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 2000, "ignore_eos": True}
    times: list[float] = []
    with RawStream(default_server.url, {**body, "temperature": 0}) as stream:
        events = stream.events()
        for _ in range(5):
            next(events)
        is_over = threading.Event()

        def read() -> None:
            while not is_over.is_set():
                next(events)
                times.append(time.perf_counter())

        reader = threading.Thread(target=read)
        reader.start()
        started = time.perf_counter()
        seconds, usage = first_token(default_server, fresh_ids(4000))
        is_over.set()
        reader.join()
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    during = [moment for moment in times if started <= moment <= started + seconds]
    # One token at least for each chunk: the stream ran on, and the prompt came in chunks. How many
    # follows from --inter-token-ms and the machine; none is larger than the budget of a step.
    assert len(during) >= 4000 // CPU_TOKEN_BUDGET - 1
    gaps = [later - earlier for earlier, later in itertools.pairwise(during)]
    assert max(gaps) < 3 * chunk_s


def _last_chunk_seconds(server: Server) -> float:
    """Seconds for one chunk of a prompt of 4,096 tokens whose beginning is cached; of three."""
    beginning = fresh_ids(4096 - CHUNK_TOKENS)
    first_token(server, beginning)
    times = []
    for _ in range(3):
        seconds, usage = first_token(server, beginning + fresh_ids(CHUNK_TOKENS))
        assert usage["prompt_tokens_details"]["cached_tokens"] > 3500
        times.append(seconds)
    return statistics.median(times)
