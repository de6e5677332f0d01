"""Exact mode keeps its word: a text does not depend on what else the server computes."""

import asyncio
import random

import openai
import pytest

from tests.e2e.clients import async_openai_client
from tests.e2e.server import Server

pytestmark = pytest.mark.e2e

MODEL = "SmolLM2-135M-Instruct"
NUM_OTHERS = 30
# Beside other load on the same cores it has taken over a minute.
DEADLINE_SECONDS = 300.0


def test_seeded_text_is_the_same_alone_and_among_30_others(exact_server: Server) -> None:
    rng = random.Random(30)

    async def probe(client: openai.AsyncOpenAI) -> str:
        answer = await client.completions.create(
            model=MODEL,
            prompt="It was a dark night, and the old captain",
            max_tokens=24,
            temperature=1,
            seed=2024,
            extra_body={"ignore_eos": True},
        )
        return answer.choices[0].text

    async def other(client: openai.AsyncOpenAI, is_begun: asyncio.Event) -> None:
        stream = await client.completions.create(
            model=MODEL,
            prompt=rng.choices(range(1000, 40000), k=rng.randint(1, 100)),
            max_tokens=rng.randint(32, 48),
            temperature=1,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        async for _ in stream:
            is_begun.set()

    async def ask() -> tuple[str, str, int]:
        async with (
            asyncio.timeout(DEADLINE_SECONDS),
            async_openai_client(exact_server.url) as usual,
        ):
            client = usual.with_options(timeout=DEADLINE_SECONDS)
            alone = await probe(client)
            is_begun = asyncio.Event()
            others = [asyncio.create_task(other(client, is_begun)) for _ in range(NUM_OTHERS)]
            await is_begun.wait()
            among = await probe(client)
            num_beside = sum(not task.done() for task in others)
            await asyncio.gather(*others)
            return alone, among, num_beside

    alone, among, num_beside = asyncio.run(ask())
    assert among == alone
    assert num_beside > 0, "the others were to run beside it to its end"
