"""A text does not depend on what else the server computes.

Exact mode promises it wherever it computes, the default mode where our own kernels do.
"""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from backend.native import absence, levels
from tests.e2e.clients import async_openai_client, metrics, openai_client
from tests.e2e.server import Server
from tests.level import forced_level

pytestmark = pytest.mark.e2e

MODEL = "SmolLM2-135M-Instruct"
PROMPT = "It was a dark night, and the old captain"
# Beside other load on the same cores it has taken over a minute.
DEADLINE_SECONDS = 300.0


@pytest.fixture(scope="module")
def exact_server() -> Iterator[Server]:
    """The default model in exact mode. 1 GiB of KV cache holds 46,000 tokens in bfloat16."""
    with Server("--exact", "--kv-cache-bytes", str(1 << 30)) as server:
        yield server


@pytest.fixture(scope="module")
def crowded_server() -> Iterator[Server]:
    """The default model in the default mode, with blocks for some 1,000 tokens."""
    with Server("--kv-cache-bytes", str(24 << 20), "--max-num-batched-tokens", "40") as server:
        yield server


def random_prompts(count: int, longest: int, ids: range) -> list[list[int]]:
    rng = random.Random(30)
    return [rng.choices(ids, k=rng.randint(1, longest)) for _ in range(count)]


async def check_alone_and_among(
    server: Server, model: str, num_tokens: int, prompts: list[list[int]], times: int = 2
) -> None:
    """Compare a seeded text with the same among others, which run beside it to its end.

    The others have these prompts, different lengths, and each is this many times longer.
    """
    lengths = random.Random(30)
    fields: Any = {"model": model, "temperature": 1, "extra_body": {"ignore_eos": True}}
    has_begun = asyncio.Event()

    async def probe(client: openai.AsyncOpenAI) -> str:
        answer = await client.completions.create(
            prompt=PROMPT, max_tokens=num_tokens, seed=2024, **fields
        )
        assert isinstance(answer, openai.types.Completion)
        return answer.choices[0].text

    async def other(client: openai.AsyncOpenAI, prompt: list[int]) -> None:
        length = times * num_tokens + lengths.randint(0, num_tokens)
        stream = await client.completions.create(
            prompt=prompt, max_tokens=length, stream=True, **fields
        )
        async for _ in stream:
            has_begun.set()

    async with asyncio.timeout(DEADLINE_SECONDS), async_openai_client(server.url) as usual:
        client = usual.with_options(timeout=DEADLINE_SECONDS)
        alone = await probe(client)
        others = [asyncio.create_task(other(client, prompt)) for prompt in prompts]
        await has_begun.wait()
        among = await probe(client)
        num_beside = sum(not task.done() for task in others)
        await asyncio.gather(*others)
    assert among == alone
    assert num_beside > 0, "the others were to run beside it to its end"


async def test_seeded_text_is_the_same_among_30_others(tiny_exact_server: Server) -> None:
    prompts = random_prompts(30, 100, range(3, 320))
    await check_alone_and_among(tiny_exact_server, "tiny", 40, prompts)


async def test_real_models_text_is_the_same_among_others(exact_server: Server) -> None:
    """Few tokens: PyTorch's kernels have made 7 of them in a second in this mode; ours, a hundred,
    so the others are long enough for a client that comes late."""
    prompts = random_prompts(3, 8, range(1000, 40000))
    await check_alone_and_among(exact_server, MODEL, 6, prompts, times=10)


@pytest.mark.skipif(not levels(), reason=absence)
@pytest.mark.skipif(forced_level().settings.get("kernels") == "torch", reason="PyTorch computes")
async def test_default_mode_has_the_same_text_among_others(crowded_server: Server) -> None:
    """Chunks of 40 tokens, hits in the prefix cache, and preemption for want of blocks."""
    # What is cached of those that have gone may be gone, too: what runs is hit for certain.
    prefix, prompts = [*range(2000, 2064)], random_prompts(30, 60, range(1000, 40000))
    prompts = [[*prefix, *prompt] for prompt in prompts]
    await check_alone_and_among(crowded_server, MODEL, 24, prompts)
    seen = metrics(crowded_server.url)
    assert seen['unisono_num_preemptions_total{group="0"}'] > 0
    assert seen['unisono_prefix_cache_hits_total{group="0"}'] > 0


def test_seeded_choices_differ_and_repeat(tiny_exact_server: Server) -> None:
    """Elsewhere a draw may see logits that differ in their last bits."""

    def ask() -> list[str]:
        answer = client.completions.create(
            model="tiny", prompt="Once upon a time", max_tokens=8, n=3, seed=7, temperature=1
        )
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        return [choice.text for choice in answer.choices]

    with openai_client(tiny_exact_server.url) as client:
        first = ask()
        assert len(set(first)) == 3
        assert ask() == first
