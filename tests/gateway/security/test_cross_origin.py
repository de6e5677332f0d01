"""CORS as a browser sees it: preflights, and the headers of every kind of answer."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from backend.wire.messages import FinishReason
from gateway.app import create_app
from gateway.requests.grammars import NOT_ENFORCED_HEADER
from gateway.requests.unknown_fields import HEADER
from gateway.security.key_file import add_key
from gateway.security.keyring import Keyring
from gateway.security.keys import create_key
from gateway.security.origins import Origins
from gateway.tenant import KeyScope
from tests.gateway.fakes import Exchange, FakePool, complete, make_service

pytestmark = pytest.mark.anyio

PAGE = "https://app.example.com"
ALLOWED = "access-control-allow-origin"
Headers = list[tuple[str, str]]


def app_for(
    pages: Sequence[str] = (), keyring: Keyring | None = None, pool: FakePool | None = None
) -> ASGIApp:
    pool = pool or FakePool(script=(b"ab", FinishReason.LENGTH))
    return create_app(make_service(pool, keyring=keyring, origins=Origins(pages)))


@pytest.fixture
def key(tmp_path: Path) -> str:
    key, kept = create_key("", [KeyScope.INFER])
    add_key(tmp_path / "keys.toml", kept)
    return key


@pytest.fixture
def keyring(tmp_path: Path, key: str) -> Keyring:
    keyring = Keyring(tmp_path / "keys.toml")
    keyring.reload()
    return keyring


def asks(path: str = "/v1/completions", origin: str = PAGE, **more: str) -> tuple[str, Headers]:
    headers = {"origin": origin, "access-control-request-method": "POST"}
    headers |= {f"access-control-request-{name.replace('_', '-')}": v for name, v in more.items()}
    return path, list(headers.items())


async def preflight(app: ASGIApp, asked: tuple[str, Headers]) -> Exchange:
    path, headers = asked
    return await Exchange(app, "OPTIONS", path, b"", headers).finished()


async def test_preflight_is_answered_before_the_key_is_asked_for(keyring: Keyring) -> None:
    app = app_for([PAGE], keyring)
    exchange = await preflight(app, asks(headers="authorization, content-type"))
    assert (exchange.status, exchange.body) == (204, b"")
    assert exchange.headers[ALLOWED] == PAGE
    assert exchange.headers["access-control-allow-headers"] == "authorization, content-type"
    assert "POST" in exchange.headers["access-control-allow-methods"]
    assert int(exchange.headers["access-control-max-age"]) > 0
    assert exchange.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in exchange.headers
    # What it tells does not depend on what is served.
    assert (await preflight(app, asks("/nowhere"))).status == 204


async def test_preflight_of_a_page_not_named_is_refused() -> None:
    for pages in ([], ["https://other.example.com"], ["none"]):
        exchange = await preflight(app_for(pages), asks())
        assert exchange.status == 403
        assert exchange.error["code"] == "origin_not_allowed"
        assert ALLOWED not in exchange.headers


async def test_public_page_may_reach_a_private_network_if_it_may_call() -> None:
    asked = asks(private_network="true")
    name = "access-control-allow-private-network"
    assert (await preflight(app_for([PAGE]), asked)).headers[name] == "true"
    assert name not in (await preflight(app_for(), asked)).headers
    assert name not in (await preflight(app_for([PAGE]), asks())).headers


async def test_odd_header_names_are_not_echoed() -> None:
    exchange = await preflight(app_for([PAGE]), asks(headers="a:b"))
    assert exchange.status == 204
    assert "access-control-allow-headers" not in exchange.headers


async def test_options_without_a_wish_is_no_preflight(keyring: Keyring) -> None:
    headers = [("origin", PAGE)]
    app = app_for([PAGE], keyring)
    exchange = await Exchange(app, "OPTIONS", "/livez", b"", headers).finished()
    assert exchange.headers["allow"] == "GET, HEAD, OPTIONS"
    assert (await Exchange(app, "OPTIONS", "/v1/models", b"", headers).finished()).status == 401


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_can_be_read_by_pages_that_may_call(stream: bool) -> None:
    headers = [("origin", PAGE)]
    exchange = await complete(app_for([PAGE]), headers, stream=stream, max_tokens=2).finished()
    assert exchange.status == 200
    assert exchange.headers[ALLOWED] == PAGE
    readable = exchange.headers["access-control-expose-headers"].split(", ")
    assert {"x-request-id", HEADER, NOT_ENFORCED_HEADER} <= set(readable)


async def test_refusals_can_be_read_too(keyring: Keyring, key: str) -> None:
    headers = [("origin", PAGE)]
    without = await complete(app_for([PAGE], keyring), headers).finished()
    assert (without.status, without.headers[ALLOWED]) == (401, PAGE)
    headers.append(("authorization", f"Bearer {key}"))
    wrong = await complete(app_for([PAGE], keyring), headers, n="x").finished()
    assert (wrong.status, wrong.headers[ALLOWED]) == (400, PAGE)
    lost = await Exchange(app_for([PAGE], keyring), "GET", "/none", b"", headers).finished()
    assert (lost.status, lost.headers[ALLOWED]) == (404, PAGE)


async def test_page_not_named_cannot_make_a_server_without_keys_work() -> None:
    """A page posted text/plain, which a browser sends without asking first."""
    pool = FakePool()
    headers = [("origin", "https://evil.example"), ("content-type", "text/plain")]
    exchange = await complete(app_for(pool=pool), headers).finished()
    assert exchange.status == 403
    assert exchange.error["code"] == "origin_not_allowed"
    assert not pool.submitted and ALLOWED not in exchange.headers


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", ""])
async def test_what_is_no_page_need_not_name_a_content_type(content_type: str) -> None:
    """curl -d without a header sends a form's."""
    headers = [("content-type", content_type)] if content_type else []
    assert (await complete(app_for(), headers, max_tokens=2).finished()).status == 200


async def test_key_says_more_than_an_origin(keyring: Keyring, key: str) -> None:
    """No page can send a key unless a preflight allowed it: who has one is no page, or may call."""
    headers = [("origin", "app://desktop"), ("authorization", f"Bearer {key}")]
    exchange = await complete(app_for([], keyring), headers, max_tokens=2).finished()
    assert exchange.status == 200
    assert ALLOWED not in exchange.headers


async def test_rebound_name_cannot_make_a_server_without_keys_work() -> None:
    pool = FakePool()
    for path in ("/v1/models", "/metrics", "/nowhere"):
        headers = [("host", "evil.example:8000")]
        exchange = await Exchange(app_for(pool=pool), "GET", path, b"", headers).finished()
        assert (exchange.status, exchange.error["code"]) == (403, "host_not_allowed")
    probe = await Exchange(app_for(), "GET", "/readyz", b"", headers).finished()
    assert probe.status == 200 and "groups" not in probe.json


async def test_rebound_name_gets_no_figures_of_a_server_with_keys(keyring: Keyring) -> None:
    """Who sits on this machine needs no key for /metrics, but a page does not sit anywhere."""
    headers = [("host", "evil.example")]
    app = app_for([], keyring)
    assert (await Exchange(app, "GET", "/metrics", b"", headers).finished()).status == 403
    assert (await Exchange(app, "GET", "/metrics").finished()).status == 200
    assert (await Exchange(app, "GET", "/v1/models", b"", headers).finished()).status == 401
