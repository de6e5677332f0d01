"""What the headers of an answer tell of its time, and what comes before there is a group."""

import pytest

from gateway.answers.delivery import server_timing
from gateway.pool.refusals import PoolNotReady
from gateway.telemetry.exchange import Timings
from tests.gateway.completion_requests import (
    LENGTH,
    completed,
    scripted,
)
from tests.gateway.fakes import (
    FakePool,
    app_of,
    complete,
    settle,
)


async def test_server_timing_says_where_the_time_went() -> None:
    timing = (await completed(scripted(b"ok"))).headers["server-timing"]
    names = [part.split(";dur=")[0] for part in timing.split(", ")]
    assert names == ["prefill", "decode"]
    assert all(float(part.split(";dur=")[1]) >= 0 for part in timing.split(", "))
    assert server_timing(Timings(1.0, 1.5, 1.75, 3.75)) == {
        "server-timing": "queue;dur=500.0, prefill;dur=250.0, decode;dur=2000.0"
    }


async def test_head_of_a_stream_tells_the_queue_if_it_is_over() -> None:
    async def head(*, is_sent: bool) -> dict[str, str]:
        pool = FakePool(is_sent_at_once=is_sent)
        exchange = complete(app_of(pool), stream=True)
        await settle()
        headers = exchange.headers
        pool.play(0, b"x", LENGTH)
        await exchange.finished()
        return headers

    assert (await head(is_sent=True))["server-timing"].startswith("queue;dur=")
    assert "server-timing" not in (await head(is_sent=False))


@pytest.mark.parametrize("stream", [False, True])
async def test_request_waits_at_a_shut_door(stream: bool) -> None:
    pool = FakePool(is_shut=True)
    exchange = complete(app_of(pool), stream=stream)
    await settle()
    assert not exchange.messages and not pool.submitted, "not even a head"
    pool.is_shut = False
    pool.door.tell()
    await settle()
    pool.play(0, b"x", LENGTH)
    await exchange.finished()
    assert exchange.status == 200 and exchange.is_complete


@pytest.mark.parametrize("stream", [False, True])
async def test_wait_in_vain_ends_with_a_503(stream: bool) -> None:
    pool = FakePool(is_shut=True, wait_seconds=0.05, refusal=PoolNotReady(2.0))
    exchange = await complete(app_of(pool), stream=stream).finished()
    assert (exchange.status, exchange.error["code"]) == (503, "not_ready")
    assert exchange.headers["retry-after"] == "2"


async def test_more_than_may_wait_are_refused() -> None:
    app = app_of(pool := FakePool(is_shut=True))
    first, second = complete(app), complete(app)
    await settle()
    third = await complete(app).finished()
    assert (third.status, third.error["code"]) == (429, "queue_full")
    first.leave()
    await first.finished()
    assert not first.messages
    pool.is_shut = False
    pool.door.tell()
    await settle()
    assert len(pool.submitted) == 1
    second.leave()
    await second.finished()
