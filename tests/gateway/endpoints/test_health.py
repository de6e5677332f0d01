from typing import Any

import pytest

from gateway.pool.replica_connection import GroupStatus
from gateway.pool.status import PoolStatus
from tests.gateway.fakes import Exchange, FakePool, app_of


async def get(path: str, **state: Any) -> Exchange:
    group = GroupStatus(
        group=0,
        ready=True,
        running=3,
        waiting=1,
        free_blocks=70,
        total_blocks=100,
        seconds_since_progress=0.5,
    )
    status: dict[str, Any] = {"ready": True, "draining": False, "stalled": False} | state
    pool = FakePool(state=PoolStatus(**status, groups=[group]))

    return await Exchange(app_of(pool), "GET", path).finished()


NOT_READY = [
    ({"ready": False}, "starting"),
    ({"ready": False, "stalled": True}, "stalled"),
    ({"ready": False, "draining": True}, "draining"),
]


@pytest.mark.parametrize("path", ["/readyz", "/health"])
async def test_readiness_shows_every_group(path: str) -> None:
    exchange = await get(path)
    assert exchange.status == 200
    assert exchange.json["status"] == "ready"
    [group] = exchange.json["groups"]
    assert (group["group"], group["name"]) == (0, "primary")
    assert (group["running"], group["waiting"], group["free_blocks"]) == (3, 1, 70)


@pytest.mark.parametrize("path", ["/readyz", "/health"])
@pytest.mark.parametrize(("state", "word"), NOT_READY)
async def test_readiness_is_503_with_the_reason(
    path: str, state: dict[str, bool], word: str
) -> None:
    exchange = await get(path, **state)
    assert exchange.status == 503
    assert exchange.json["status"] == word
    assert len(exchange.json["groups"]) == 1


@pytest.mark.parametrize(("state", "word"), NOT_READY)
async def test_liveness_does_not_ask_the_groups(state: dict[str, bool], word: str) -> None:
    assert (await get("/livez", **state)).status == 200


async def test_version_is_told() -> None:
    assert (await get("/version")).json["version"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_root_answers_whatever_the_state(method: str) -> None:
    pool = FakePool(state=PoolStatus(ready=False, draining=True, stalled=False, groups=[]))
    exchange = await Exchange(app_of(pool), method, "/").finished()
    assert exchange.status == 200
