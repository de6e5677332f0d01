"""What the headers of an answer tell of its time."""

from gateway.answers.delivery import server_timing
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
