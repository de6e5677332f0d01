"""Streams as bytes on a socket, streams cut off, and many streams at once.

All of them with a tiny model: what is tested does not depend on what is said or how fast.
"""

import asyncio
import json
import random

import openai
import pytest

from tests.e2e.clients import RawStream, async_openai_client, is_idle
from tests.e2e.crowd import FREED_SECONDS, SLOW_SEED
from tests.e2e.server import Server, wait_until

pytestmark = pytest.mark.e2e

MODEL = "tiny"
# A second or two on two cores that do nothing else.
STREAMS_SECONDS = 240.0
IDS = range(3, 320)


def test_events_are_framed_to_the_byte(tiny_server: Server) -> None:
    body = {
        "model": MODEL,
        "prompt": "The capital of France is",
        "max_tokens": 32,
        "temperature": 0,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }
    with RawStream(tiny_server.url, body) as stream:
        raw = b"".join(stream.pieces())
    assert stream.status == 200
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["cache-control"] == "no-cache"
    assert b"\r" not in raw
    assert raw.endswith(b"\n\ndata: [DONE]\n\n")
    *events, done, nothing = raw.split(b"\n\n")
    assert (done, nothing) == (b"data: [DONE]", b"")
    # A busy stream has no comments, and every event is one line of JSON.
    assert all(event.startswith(b"data: {") and b"\n" not in event for event in events)
    *chunks, last = [json.loads(event.removeprefix(b"data: ")) for event in events]
    assert all(chunk["usage"] is None and chunk["object"] == "text_completion" for chunk in chunks)
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 32
    *reasons, reason = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reason == "length" and set(reasons) == {None}
    fields = {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert all(chunk.keys() == fields for chunk in (*chunks, last))
    choice_fields = {"text", "index", "logprobs", "finish_reason"}
    assert all(chunk["choices"][0].keys() == choice_fields for chunk in chunks[:-1])
    assert chunks[-1]["choices"][0].keys() == choice_fields | {"stop_reason"}


def test_usage_is_absent_unless_asked_for(tiny_server: Server) -> None:
    body = {"model": MODEL, "prompt": "The capital of France is", "max_tokens": 2}
    with RawStream(tiny_server.url, body) as stream:
        assert all("usage" not in chunk for chunk in stream.chunks())


@pytest.mark.parametrize("moment", ["before the first token", "in mid-stream"])
def test_hanging_up_frees_the_blocks(slow_server: Server, moment: str) -> None:
    """Left alone, the request would run for long: only an abort can free it in time."""
    wait_until(lambda: is_idle(slow_server.url), 60, "idle before the test")
    is_early = moment == "before the first token"
    prompt = random.Random(moment).choices(IDS, k=8000 if is_early else 200)
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 8000, "ignore_eos": True}
    body["seed"] = SLOW_SEED
    with RawStream(slow_server.url, body) as stream:
        if not is_early:
            chunks = stream.chunks()
            for _ in range(5):
                next(chunks)
        wait_until(lambda: not is_idle(slow_server.url), 60, "blocks are taken")
    wait_until(lambda: is_idle(slow_server.url), FREED_SECONDS, "all blocks are free again")


async def test_64_streams_of_mixed_lengths_all_finish(tiny_server: Server) -> None:
    rng = random.Random(64)
    asked = [(rng.randint(1, 600), rng.randint(1, 60)) for _ in range(64)]

    async def one(client: openai.AsyncOpenAI, num_prompt: int, max_tokens: int) -> int:
        stream = await client.completions.create(
            model=MODEL,
            prompt=rng.choices(IDS, k=num_prompt),
            max_tokens=max_tokens,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )
        *chunks, last = [chunk async for chunk in stream]
        assert chunks[-1].choices[0].finish_reason == "length"
        assert last.usage is not None and last.usage.prompt_tokens == num_prompt
        return last.usage.completion_tokens

    # Pings keep a stream alive for ever, so the client's own timeout would not do.
    async with asyncio.timeout(STREAMS_SECONDS), async_openai_client(tiny_server.url) as client:
        counts = await asyncio.gather(*(one(client, *pair) for pair in asked))
    assert counts == [max_tokens for _, max_tokens in asked]
    wait_until(lambda: is_idle(tiny_server.url), 60, "all blocks are free again")
