"""What may still wait: by number, by tokens, and by the time it would take."""

import pytest

from gateway.pool.admission import MAX_WAITING_TOKENS, Admission
from gateway.pool.fair_queue import FairQueue
from gateway.pool.refusals import QueueFull
from gateway.tenant import Tenant
from tests.gateway.fakes import FakePool, app_of, complete

A, B, C = (Tenant(id=name * 4) for name in "abc")


def admission(queue_seconds: float = 10.0, max_waiting: int = 100) -> Admission:
    return Admission(queue_seconds=queue_seconds, max_waiting=max_waiting)


def fill(queue: FairQueue[int], tenant: Tenant, count: int, tokens: int = 10) -> None:
    for _ in range(count):
        key = len(queue)
        queue.push(key, key, tenant, priority=0, num_tokens=tokens)


def is_full(bounds: Admission, queue: FairQueue[int], tenant: Tenant, now_s: float = 0.0) -> bool:
    try:
        bounds.check(queue, tenant, now_s)
    except QueueFull as refusal:
        assert refusal.retry_after_s >= 1.0
        return True
    return False


def test_tenant_fills_half_of_the_queue_and_leaves_room() -> None:
    bounds, queue = admission(), FairQueue[int]()
    fill(queue, A, 49)
    assert not is_full(bounds, queue, A)
    fill(queue, A, 1)
    assert is_full(bounds, queue, A)
    fill(queue, B, 24)
    assert not is_full(bounds, queue, B)
    fill(queue, B, 1)
    assert is_full(bounds, queue, B) and not is_full(bounds, queue, C)


def test_few_long_prompts_fill_it_as_many_short_ones_do() -> None:
    bounds, queue = admission(), FairQueue[int]()
    fill(queue, A, 2, MAX_WAITING_TOKENS // 4)
    assert is_full(bounds, queue, A) and not is_full(bounds, queue, B)


def at_rate(bounds: Admission, tokens_per_s: int, until_s: int) -> None:
    for now_s in range(until_s + 1):
        bounds.note(tokens_per_s, is_backlogged=True, now_s=float(now_s))


def test_backlog_is_told_in_seconds_once_the_pace_is_known() -> None:
    bounds, queue = admission(), FairQueue[int]()
    fill(queue, A, 40)
    assert bounds.backlog_s(queue, 0.0) == 0.0
    for now_s in range(5):
        bounds.note(100, is_backlogged=True, now_s=float(now_s))
    assert bounds.backlog_s(queue, 4.0) == pytest.approx(4.0, rel=0.3)


def test_wait_follows_from_the_rate_at_which_groups_take_tokens() -> None:
    bounds, queue = admission(queue_seconds=10), FairQueue[int]()
    fill(queue, A, 49, 100)
    assert not is_full(bounds, queue, A), "nobody knows the rate yet"
    at_rate(bounds, 100, 20)
    assert bounds.wait_s(queue, A, 20.0) == pytest.approx(49)
    with pytest.raises(QueueFull) as refusal:
        bounds.check(queue, A, 20.0)
    assert refusal.value.retry_after_s == pytest.approx(40)
    at_rate(bounds, 1000, 20)
    assert not is_full(bounds, queue, A, 20.0)


def test_wait_of_one_tenant_is_not_that_of_another() -> None:
    bounds, queue = admission(queue_seconds=10), FairQueue[int]()
    fill(queue, A, 40, 100)
    at_rate(bounds, 100, 20)
    assert is_full(bounds, queue, A, 20.0) and not is_full(bounds, queue, B, 20.0)
    fill(queue, B, 1, 100)
    assert bounds.wait_s(queue, B, 20.0) == pytest.approx(2), "half of what is served is B's"


def test_time_in_which_nothing_waits_does_not_count() -> None:
    bounds, queue = admission(), FairQueue[int]()
    at_rate(bounds, 100, 20)
    bounds.note(100, is_backlogged=False, now_s=21.0)
    bounds.note(100, is_backlogged=True, now_s=1000.0)
    fill(queue, A, 5, 100)
    assert bounds.wait_s(queue, A, 1000.0) == pytest.approx(5)


def test_group_that_takes_nothing_any_more_is_slow() -> None:
    bounds, queue = admission(), FairQueue[int]()
    at_rate(bounds, 100, 20)
    fill(queue, A, 5, 100)
    assert bounds.wait_s(queue, A, 60.0) > 10


@pytest.mark.parametrize("stream", [False, True])
async def test_full_queue_is_a_429_that_says_when_to_come_back(stream: bool) -> None:
    pool = FakePool(is_full=True)
    exchange = await complete(app_of(pool), stream=stream).finished()
    assert (exchange.status, exchange.error["code"]) == (429, "queue_full")
    headers = exchange.headers
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("8", "7200")
    assert headers["x-should-retry"] == "true"
    assert not pool.submitted
