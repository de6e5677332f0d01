"""Every route without a key, with one, and with what a client may try instead of one."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from backend.wire.messages import FinishReason
from gateway.app import Envelope, create_app
from gateway.security.access import Access, Gate
from gateway.security.key_file import add_key
from gateway.security.keyring import Keyring
from gateway.security.keys import create_key
from gateway.security.origins import Origins
from gateway.telemetry.observer import Observer
from gateway.tenant import KeyScope
from tests.gateway.fakes import Exchange, FakePool, complete, make_service, settle

PAGES = {"/", "/page/theme.css", "/docs", "/openapi.json"}
OPEN_PATHS = {*PAGES, "/livez", "/readyz", "/health", "/healthz"}
ELSEWHERE = "192.0.2.7"


class World:
    """An application with two keys, and one that lets those without a key in, too."""

    def __init__(self, directory: Path) -> None:
        path = directory / "keys.toml"
        self.key, kept = create_key("", [KeyScope.INFER], max_requests=2)
        add_key(path, kept)
        self.tenant_id = kept.id
        self.admin_key, kept = create_key("", [KeyScope.ADMIN])
        add_key(path, kept)
        self.keyring = Keyring(path)
        self.keyring.reload()
        self.pool = FakePool()

    def app(self, *, allow_anonymous: bool = False) -> ASGIApp:
        service = make_service(self.pool, keyring=self.keyring, allow_anonymous=allow_anonymous)
        return create_app(service)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def bearer(key: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {key}")]


def answer(
    app: ASGIApp,
    method: str,
    path: str,
    headers: Iterable[tuple[str, str]] = (),
    client: str = ELSEWHERE,
    body: bytes = b"",
) -> Exchange:
    async def run() -> Exchange:
        return await Exchange(app, method, path, body, headers, client).finished()

    return asyncio.run(run())


def all_routes(app: ASGIApp) -> list[tuple[str, str]]:
    routes = cast(list[Route], cast(Starlette, app).routes)
    return [(method, route.path) for route in routes for method in route.methods or ()]


def test_every_route_but_probes_and_pages_needs_a_key(world: World) -> None:
    app = world.app()
    for method, path in all_routes(app):
        concrete = path.replace("{name:path}", "tiny").replace("{name}", "theme.css")
        assert "{" not in concrete, "tell this test how to fill the path in"
        status = answer(app, method, concrete).status
        assert (status == 200) if concrete in OPEN_PATHS else (status == 401), (method, path)


def test_open_pages_do_not_name_the_model(world: World) -> None:
    app = world.app()
    for path in PAGES:
        accept = [("accept", "text/html")]
        assert b"tiny" not in answer(app, "GET", path, accept).body, path
    assert b"tiny" in answer(app, "GET", "/docs", bearer(world.key)).body


@pytest.mark.parametrize(
    "path",
    [
        "//",
        "/v1/nothing",
        "/metrics",
        "/admin",
        "/livez/",
        "//livez",
        "/LIVEZ",
        "/livez%2f..%2fv1/models",
        "/livez/../v1/models",
        "/v1/models/../../livez",
        "/livez;/v1/models",
        "/v1/models?/livez",
        "/v1/models\n/livez",
    ],
)
def test_unknown_paths_and_odd_spellings_are_denied(world: World, path: str) -> None:
    app = world.app()
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"):
        assert answer(app, method, path).status == 401, method


def test_x_api_key_is_as_good_on_every_route(world: World) -> None:
    app = world.app()
    for method, path in all_routes(app):
        concrete = path.replace("{name:path}", "tiny").replace("{name}", "theme.css")
        if concrete in (*OPEN_PATHS, "/metrics"):
            continue
        statuses = {
            answer(app, method, concrete, headers).status
            for headers in (
                bearer(world.key),
                [("x-api-key", f" {world.key} ")],
                [("x-api-key", world.key), *bearer(world.key)],
            )
        }
        assert len(statuses) == 1 and statuses.isdisjoint({401, 403}), (method, path)


def test_refusal_of_a_message_is_anthropics(world: World) -> None:
    exchange = answer(world.app(), "POST", "/v1/messages")
    assert exchange.status == 401
    assert exchange.json["error"]["type"] == "authentication_error"
    forbidden = answer(world.app(), "POST", "/v1/messages", bearer(world.admin_key))
    assert forbidden.status == 403
    assert forbidden.json["error"]["type"] == "permission_error"


def test_refusal_is_openai_s_and_comes_before_the_body(world: World) -> None:
    async def run() -> Exchange:
        exchange = Exchange(world.app(), "POST", "/v1/completions", [b"{", b""])
        exchange.incoming.get_nowait()
        await settle()
        return exchange

    exchange = asyncio.run(run())
    assert exchange.status == 401
    assert exchange.headers["www-authenticate"] == "Bearer"
    assert exchange.headers["x-should-retry"] == "false"


def test_refusal_names_the_code_that_clients_know(world: World) -> None:
    error = answer(world.app(), "GET", "/v1/models").error
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")


def test_key_opens_the_model_and_names_the_tenant(world: World) -> None:
    world.pool.script = (b"x", FinishReason.STOP)
    app = world.app()
    body = b'{"model": "tiny", "prompt": "hi", "cache_salt": "s"}'
    assert answer(app, "POST", "/v1/completions", bearer(world.key), body=body).status == 200
    assert world.pool.submitted[0].tenant == world.tenant_id
    assert world.pool.submitted[0].cache_salt == f"{world.tenant_id}:s"
    assert (
        answer(app, "GET", "/v1/models", [("authorization", f"bEARER  {world.key} ")]).status == 200
    )
    assert answer(app, "GET", "/nothing", bearer(world.key)).status == 404


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer sk-nobody-x")],
        [("authorization", "Bearer")],
        [("authorization", "")],
        [("authorization", "Basic {key}")],
        [("authorization", "{key}")],
        [("authorization", "Bearer {key}, Bearer {key}")],
        [("authorization", "Bearer {key}"), ("authorization", "Bearer {key}")],
        [("x-api-key", "Bearer {key}")],
        [("x-api-key", "{key}"), ("x-api-key", "{key}")],
        [("x-api-key", "{key}"), ("authorization", "Bearer sk-nobody-x")],
        [("x-api-key", "{key}"), ("authorization", "Basic {key}")],
        [("api-key", "{key}")],
        [("host", "livez"), ("x-forwarded-for", "127.0.0.1"), ("x-forwarded-path", "/livez")],
        [("host", "a/livez?x="), ("x-original-url", "/livez"), ("x-rewrite-url", "/livez")],
        [("forwarded", "for=127.0.0.1;host=localhost"), ("x-real-ip", "127.0.0.1")],
    ],
)
def test_nothing_but_one_right_key_opens(world: World, headers: list[tuple[str, str]]) -> None:
    given = [(name, value.format(key=world.key)) for name, value in headers]
    assert answer(world.app(), "GET", "/v1/models", given).status == 401
    assert answer(world.app(), "GET", "/v1/models", given, client="127.0.0.1").status == 401


def test_admin_key_does_not_open_the_model(world: World) -> None:
    exchange = answer(world.app(), "GET", "/v1/models", bearer(world.admin_key))
    assert (exchange.status, exchange.error["code"]) == (403, "insufficient_scope")


def test_probes_tell_loads_only_to_those_with_a_key(world: World) -> None:
    app = world.app()
    assert answer(app, "GET", "/readyz").json == {"status": "ready"}
    assert answer(app, "GET", "/readyz", bearer("sk-wrong-x")).json == {"status": "ready"}
    assert "groups" in answer(app, "GET", "/readyz", bearer(world.key)).json


def test_those_without_a_key_come_in_where_they_may(world: World) -> None:
    app = world.app(allow_anonymous=True)
    assert answer(app, "GET", "/v1/models").status == 200
    assert answer(app, "GET", "/v1/models", bearer("sk-wrong-x")).status == 401


async def _page(request: Any) -> PlainTextResponse:
    return PlainTextResponse("numbers")


def test_operators_pages_need_an_admin_key_or_this_machine(world: World) -> None:
    route = Route("/metrics", _page)
    gate = Gate(
        Starlette(routes=[route]),
        [(Access.ADMIN, route)],
        world.keyring,
        Origins(),
        allow_anonymous=True,
    )
    gated = Envelope(gate, drain_timeout_s=1, observer=Observer())
    assert answer(gated, "GET", "/metrics", bearer(world.admin_key)).status == 200
    assert answer(gated, "GET", "/metrics", bearer(world.key)).status == 403
    assert answer(gated, "GET", "/metrics").status == 403
    for client in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
        assert answer(gated, "GET", "/metrics", client=client).status == 200
    for client in ("10.0.0.1", "::", "0.0.0.0", "localhost", "::ffff:10.0.0.1", ""):
        assert answer(gated, "GET", "/metrics", client=client).status == 403


async def test_key_has_no_more_requests_open_than_it_may(world: World) -> None:
    app = world.app()

    def ask() -> Exchange:
        return complete(app, headers=bearer(world.key))

    first, second, third = ask(), ask(), ask()
    await third.finished()
    assert (third.status, third.error["code"]) == (429, "too_many_requests")
    assert int(third.headers["retry-after"]) >= 1
    first.leave()
    await first.finished()
    fourth = ask()
    await settle()
    assert not fourth.task.done()
    for exchange in (second, fourth):
        exchange.leave()
        await exchange.finished()


def test_websockets_are_closed(world: World) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/livez", "headers": [], "client": ("127.0.0.1", 1)}
    asyncio.run(cast(Any, world.app())(scope, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]
