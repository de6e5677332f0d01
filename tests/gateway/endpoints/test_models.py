from typing import Any

import httpx
import pytest

from tests.gateway.fakes import FakePool, app_of

ANTHROPIC = {"anthropic-version": "2023-06-01"}


async def get(path: str, kv: int = 400, headers: dict[str, str] | None = None) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app_of(FakePool(max_model_len=321, kv_sequence_tokens=kv)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers=headers)

    return await run()


def card(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "unisono",
        "max_model_len": 321,
        "context_length": 321,
        "max_output_tokens": 320,
        "capabilities": ["completion"],
        "task": "generate",
        "default_sampling_params": {},
    }


async def test_every_name_is_listed() -> None:
    assert (await get("/v1/models")).json() == {
        "object": "list",
        "data": [card("tiny"), card("org/tiny")],
    }


@pytest.mark.parametrize("name", ["tiny", "org/tiny", "org%2Ftiny"])
async def test_name_is_described_also_with_a_slash_in_it(name: str) -> None:
    assert (await get(f"/v1/models/{name}")).json() == card(name.replace("%2F", "/"))


async def test_context_is_no_longer_than_the_kv_cache() -> None:
    card = (await get("/v1/models/tiny", kv=200)).json()
    assert (card["max_model_len"], card["context_length"]) == (200, 200)
    assert card["max_output_tokens"] == 199


async def test_unknown_name_is_a_404() -> None:
    response = await get("/v1/models/other")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


async def test_anthropics_clients_are_told_in_their_form() -> None:
    def told(name: str) -> dict[str, Any]:
        return {
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": "2023-11-14T22:13:20Z",
            "lifecycle": "active",
            "max_input_tokens": 321,
            "max_tokens": 321,
        }

    assert (await get("/v1/models", headers=ANTHROPIC)).json() == {
        "data": [told("tiny"), told("org/tiny")],
        "has_more": False,
        "first_id": "tiny",
        "last_id": "org/tiny",
    }
    assert (await get("/v1/models/org/tiny", headers=ANTHROPIC)).json() == told("org/tiny")
    unknown = await get("/v1/models/other", headers=ANTHROPIC)
    assert unknown.json()["error"]["type"] == "not_found_error"
