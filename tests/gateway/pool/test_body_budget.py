"""Bodies together: what is held, what is refused, and that all is given back."""

import pytest
from starlette.types import ASGIApp

from backend.wire.messages import FinishReason
from gateway.app import create_app
from gateway.errors import ApiError
from gateway.pool.body_budget import BodyBudget, BodyReservation
from gateway.service import Limits
from tests.gateway.fakes import Exchange, FakePool, make_service, settle

CAP = 1000


def body(size: int) -> bytes:
    """A request of exactly so many bytes."""
    return b'{"model": "tiny", "prompt": "hi"}'.ljust(size)


def world() -> tuple[BodyBudget, FakePool, ASGIApp]:
    budget, pool = BodyBudget(CAP), FakePool()
    return (
        budget,
        pool,
        create_app(make_service(pool, body_budget=budget, limits=Limits(drain_timeout_s=0.05))),
    )


def test_tenant_holds_as_much_as_it_leaves_free() -> None:
    budget = BodyBudget(CAP)
    first, second, other = (
        BodyReservation(budget, "a"),
        BodyReservation(budget, "a"),
        BodyReservation(budget, "b"),
    )
    first.grow(300)
    second.grow(200)
    with pytest.raises(ApiError) as refusal:
        second.grow(1)
    assert refusal.value.status == 503 and refusal.value.headers()["retry-after"] == "2"
    other.grow(250)
    with pytest.raises(ApiError):
        other.grow(1)
    for held in (first, second, other, other):
        held.release()
    assert (budget.num_bytes, dict(budget.held)) == (0, {})


def test_lone_body_is_bounded_by_its_own_cap_only() -> None:
    held = BodyReservation(BodyBudget(CAP), "a")
    held.check(5 * CAP)
    held.grow(2 * CAP)
    held.grow(2 * CAP)


async def test_body_counts_until_its_answer_is_complete() -> None:
    budget, pool, app = world()
    first = Exchange(app, "POST", "/v1/completions", body(400))
    await settle()
    assert budget.num_bytes == 400
    refused = Exchange(app, "POST", "/v1/completions", body(300))
    await refused.finished()
    assert refused.status == 503 and refused.error["code"] == "bodies_full"
    assert int(refused.headers["retry-after"]) >= 1
    assert budget.num_bytes == 400
    pool.play(0, b"yes", FinishReason.STOP)
    await first.finished()
    assert (first.status, budget.num_bytes) == (200, 0)
    again = Exchange(app, "POST", "/v1/completions", body(300))
    await settle()
    pool.play(1, b"yes", FinishReason.STOP)
    await again.finished()
    assert again.status == 200


async def test_declared_body_without_room_is_refused_unread() -> None:
    budget, _, app = world()
    first = Exchange(app, "POST", "/v1/completions", body(400))
    await settle()
    declared = Exchange(app, "POST", "/tokenize", body(300))
    declared.incoming.get_nowait()
    await declared.finished()
    assert declared.status == 503
    assert budget.num_bytes == 400
    first.leave()
    await first.finished()
    assert budget.num_bytes == 0
