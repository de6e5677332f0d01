import asyncio
from typing import Any

import httpx
import pytest

from tests.gateway.fakes import FakePool, app_of


def get(path: str) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app_of(FakePool(max_model_len=321)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(run())


def card(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "unisono",
        "max_model_len": 321,
    }


def test_every_name_is_listed() -> None:
    assert get("/v1/models").json() == {"object": "list", "data": [card("tiny"), card("org/tiny")]}


@pytest.mark.parametrize("name", ["tiny", "org/tiny", "org%2Ftiny"])
def test_a_name_is_described_also_with_a_slash_in_it(name: str) -> None:
    assert get(f"/v1/models/{name}").json() == card(name.replace("%2F", "/"))


def test_an_unknown_name_is_a_404() -> None:
    response = get("/v1/models/other")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
