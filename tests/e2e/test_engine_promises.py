"""What continuous batching, the prefix cache and chunked prefill are worth: in steps, and in time.

Steps are counted on every machine, with a model that costs nothing. Times are ratios of what the
same server takes within seconds, and only the long run asks for them: they need quiet cores.
"""

import asyncio
import itertools
import random
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.placement.memory_plan import CPU_TOKEN_BUDGET
from gateway.bench.load import run_rounds
from gateway.bench.streamed_request import Target
from gateway.bench.workload import Workload
from tests.e2e.clients import RawStream, async_openai_client, metrics
from tests.e2e.crowd import SLOW_SEED, SLOWLY
from tests.e2e.server import Server, wait_until

pytestmark = pytest.mark.e2e

MODEL = "SmolLM2-135M-Instruct"
CHUNK_TOKENS = 256
NUM_STREAMS = 16
NUM_TOKENS = 200
# The supervisor asks the groups for their figures every second.
FIGURES_SECONDS = 60.0


@pytest.fixture(scope="module")
def counted(tiny_model: Path) -> Iterator[Server]:
    """Nobody else has tokens drawn here, and steps with requests of SLOW_SEED take 5 ms: whoever
    asks in time for all to be in them."""
    with Server(tiny_model, *SLOWLY) as server:
        yield server


def fresh_ids(count: int, ids: range = range(1000, 40000)) -> list[int]:
    """A prompt that no cache has seen."""
    return random.Random().choices(ids, k=count)


def tiny_ids(count: int) -> list[int]:
    return fresh_ids(count, range(3, 320))


def first_token(server: Server, model: str, prompt: list[int]) -> tuple[float, dict[str, Any]]:
    """Seconds to the first token of a prompt, and the usage."""
    body = {
        "model": model,
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


class Work:
    """How much the only group has done since the last look: steps, prompt tokens, tokens drawn."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = self._read()

    def until(self, num_drawn: int) -> tuple[int, int]:
        """Wait until so many tokens have been drawn; return steps and prompt tokens computed."""
        wait_until(lambda: self._read()[2] >= self._before[2] + num_drawn, FIGURES_SECONDS, "drawn")
        now = self._read()
        steps, prompt_tokens, drawn = (a - b for a, b in zip(now, self._before, strict=True))
        assert drawn == num_drawn
        self._before = now
        return steps, prompt_tokens

    def _read(self) -> list[int]:
        figures = metrics(self._server.url)
        names = ("steps", "prompt_tokens", "generation_tokens")
        return [int(figures[f'unisono_engine_{name}_total{{group="0"}}']) for name in names]


async def test_16_streams_share_their_steps(counted: Server) -> None:
    work = Work(counted)
    async with async_openai_client(counted.url) as client:

        async def one() -> int:
            stream = await client.completions.create(
                model="tiny",
                prompt=tiny_ids(32),
                max_tokens=NUM_TOKENS,
                stream=True,
                seed=SLOW_SEED,
                extra_body={"ignore_eos": True},
            )
            return len([chunk async for chunk in stream])

        await asyncio.gather(*(one() for _ in range(NUM_STREAMS)))
    steps, prompt_tokens = work.until(NUM_STREAMS * NUM_TOKENS)
    assert prompt_tokens == NUM_STREAMS * 32
    # One after the other would take 16 x 200; all at once takes 200, and some in which they come.
    assert steps <= NUM_STREAMS * NUM_TOKENS / 3


def test_repeated_prompt_is_not_computed_again(counted: Server) -> None:
    prompts = [tiny_ids(1000) for _ in range(3)]
    work = Work(counted)
    first = [first_token(counted, "tiny", prompt)[1] for prompt in prompts]
    assert work.until(3)[1] == 3000
    again = [first_token(counted, "tiny", prompt)[1] for prompt in prompts]
    assert work.until(3)[1] < 300
    cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in (*first, *again)]
    assert cached[:3] == [0, 0, 0] and min(cached[3:]) > 900


def test_long_prompt_shares_the_steps_of_a_stream(counted: Server) -> None:
    """It comes in chunks, and the stream gets a token in the step of each."""
    work = Work(counted)
    num_prompt, num_tokens = 4000, 600
    beside_a_stream(counted, "tiny", tiny_ids(num_prompt), num_tokens)
    steps, prompt_tokens = work.until(num_tokens + 1)
    assert prompt_tokens == num_prompt + 1 > 2 * CPU_TOKEN_BUDGET
    # It took not a step of its own; one more is the stream's first or last.
    assert steps <= num_tokens + 1


@pytest.mark.slow
async def test_16_streams_give_three_times_the_tokens_of_one(default_server: Server) -> None:
    target = Target.parse(default_server.url)
    workload = Workload(MODEL, prompt_tokens=32, max_tokens=32, prompt_ids=True)
    rounds = await run_rounds(target, workload, (1, 16), 3)
    for result in (*rounds[1], *rounds[16]):
        assert result.num_errors == result.num_short == 0
    rates = [max(result.output_tokens_per_s for result in rounds[level]) for level in (1, 16)]
    assert rates[1] >= 3 * rates[0]


@pytest.mark.slow
def test_repeated_prompt_takes_a_third_of_the_time(default_server: Server) -> None:
    prompts = [fresh_ids(1000) for _ in range(3)]
    first = [first_token(default_server, MODEL, prompt) for prompt in prompts]
    again = [first_token(default_server, MODEL, prompt) for prompt in prompts]
    assert all(usage["prompt_tokens_details"]["cached_tokens"] == 0 for _, usage in first)
    assert all(usage["prompt_tokens_details"]["cached_tokens"] > 900 for _, usage in again)
    medians = [statistics.median(seconds for seconds, _ in times) for times in (first, again)]
    assert medians[1] < medians[0] / 3


@pytest.mark.slow
def test_long_prompt_stretches_gaps_by_no_more_than_a_chunk(default_server: Server) -> None:
    """A chunk is measured at the end of a long prompt, where attention makes it slowest."""
    chunk_s = _last_chunk_seconds(default_server)
    usage, during = beside_a_stream(default_server, MODEL, fresh_ids(4000), 400)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    # One token at least for each chunk: the stream ran on, and the prompt came in chunks. How many
    # follows from --inter-token-ms and the machine; none is larger than the budget of a step.
    assert len(during) >= 4000 // CPU_TOKEN_BUDGET - 1
    gaps = [later - earlier for earlier, later in itertools.pairwise(during)]
    assert max(gaps) < 3 * chunk_s


def beside_a_stream(
    server: Server, model: str, prompt: list[int], num_tokens: int
) -> tuple[dict[str, Any], list[float]]:
    """Ask for a prompt's first token beside a stream of `num_tokens`, which must outlast it.

    Returns the usage of the prompt, and when the stream's tokens came meanwhile.
    """
    body = {"model": model, "prompt": [5], "max_tokens": num_tokens, "ignore_eos": True}
    body["seed"] = SLOW_SEED
    times: list[float] = []
    with RawStream(server.url, {**body, "temperature": 0}) as stream:
        events = stream.events()
        for _ in range(5):
            next(events)
        reader = threading.Thread(
            target=lambda: times.extend(time.perf_counter() for _ in events), daemon=True
        )
        reader.start()
        started = time.perf_counter()
        seconds, usage = first_token(server, model, prompt)
        reader.join()
    assert times[-1] > started + seconds, "the stream was to go on"
    return usage, [moment for moment in times if started <= moment <= started + seconds]


def _last_chunk_seconds(server: Server) -> float:
    """Seconds for one chunk of a prompt of 4,096 tokens whose beginning is cached; of three."""
    beginning = fresh_ids(4096 - CHUNK_TOKENS)
    first_token(server, MODEL, beginning)
    times = []
    for _ in range(3):
        seconds, usage = first_token(server, MODEL, beginning + fresh_ids(CHUNK_TOKENS))
        assert usage["prompt_tokens_details"]["cached_tokens"] > 3500
        times.append(seconds)
    return statistics.median(times)
