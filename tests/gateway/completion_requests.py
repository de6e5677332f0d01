"""Requests for completions run to their end, and their answers put together as clients do."""

import asyncio
from collections.abc import Sequence
from typing import Any

from backend.wire.messages import FinishReason
from gateway.app import create_app
from gateway.pool.status import PoolStatus
from tests.gateway.fakes import (
    ByteTokenizer,
    Exchange,
    FakePool,
    app_of,
    complete,
    make_service,
    settle,
)

LENGTH, STOP = FinishReason.LENGTH, FinishReason.STOP
DRAINING = PoolStatus(ready=True, draining=True, stalled=False, groups=[])


async def completed(pool: FakePool, **fields: Any) -> Exchange:
    """Run one request to its end; the pool needs a script."""
    return await complete(app_of(pool), **fields).finished()


async def refused(
    pool: FakePool | None = None, tokenizer: ByteTokenizer | None = None, **fields: Any
) -> Exchange:
    """Run a request that must be refused before any sequence is submitted."""
    pool = pool or FakePool()
    tasks = asyncio.all_tasks()
    exchange = complete(create_app(make_service(pool, tokenizer)), **fields)
    await exchange.finished()
    await settle()
    assert asyncio.all_tasks() == tasks
    assert exchange.is_complete
    assert pool.running == set()
    return exchange


def scripted(text: bytes, finish: FinishReason = LENGTH) -> FakePool:
    return FakePool(script=(text, finish))


def text_of_choices(answers: Sequence[Any]) -> dict[int, tuple[str, str]]:
    """Return text and finish_reason by index, of one answer or of all chunks of a stream."""
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    for answer in answers:
        for choice in answer["choices"]:
            index = choice["index"]
            assert index not in reasons
            texts[index] = texts.get(index, "") + choice["text"]
            if choice["finish_reason"] is not None:
                reasons[index] = choice["finish_reason"]
    return {index: (texts[index], reasons[index]) for index in texts}


def logprobs_of(answers: list[Any], index: int = 0) -> dict[str, list[Any]]:
    """Join the four arrays of one choice over the chunks of a stream, or of a whole answer."""
    joined: dict[str, list[Any]] = {}
    for answer in answers:
        for choice in answer["choices"]:
            if choice["index"] == index and choice["logprobs"]:
                for name, values in choice["logprobs"].items():
                    joined.setdefault(name, []).extend(values)
    return joined
