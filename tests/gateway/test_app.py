import asyncio
import logging
from collections.abc import Sequence
from typing import cast

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.app import Envelope, create_app
from gateway.security.origins import Origins
from gateway.telemetry.logs import TextFormatter
from gateway.telemetry.observer import Observer
from tests.gateway.fakes import Exchange, FakePool, app_of, complete, make_service, settle


async def answer_to(
    app: ASGIApp,
    method: str,
    path: str,
    body: bytes | Sequence[bytes] = b"",
    headers: Sequence[tuple[str, str]] = (),
) -> Exchange:
    return await Exchange(app, method, path, body, headers).finished()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "//"),
        ("POST", "/v1/completion"),
        ("GET", "/v1/models/"),
        ("GET", "/livez/"),
        ("GET", "//livez"),
        ("GET", "/v1/../livez"),
    ],
)
async def test_unknown_path_is_a_404_in_openai_s_shape(method: str, path: str) -> None:
    exchange = await answer_to(app_of(FakePool()), method, path)
    assert exchange.status == 404
    assert exchange.error["type"] == "invalid_request_error"
    assert exchange.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/completions", "OPTIONS, POST"),
        ("HEAD", "/v1/completions", "OPTIONS, POST"),
        ("DELETE", "/v1/models/tiny", "GET, HEAD, OPTIONS"),
        ("POST", "/health", "GET, HEAD, OPTIONS"),
    ],
)
async def test_wrong_method_is_a_405_that_names_the_right_one(
    method: str, path: str, allowed: str
) -> None:
    exchange = await answer_to(app_of(FakePool()), method, path)
    assert exchange.status == 405
    assert exchange.error["code"] == "method_not_allowed"
    assert sorted(exchange.headers["allow"].split(", ")) == allowed.split(", ")


async def test_every_route_tells_its_methods_and_serves_head() -> None:
    app = app_of(FakePool())
    for route in cast(Starlette, app).routes:
        path = cast(Route, route).path.replace("{name:path}", "tiny")
        path = path.replace("{name}", "theme.css")
        options = await answer_to(app, "OPTIONS", path)
        methods = set(options.headers["allow"].split(", "))
        assert (options.status, options.body) == (204, b"")
        assert methods in ({"POST", "OPTIONS"}, {"GET", "HEAD", "OPTIONS"})
        if "HEAD" in methods and path != "/metrics":
            head, get = [await answer_to(app, method, path) for method in ("HEAD", "GET")]
            assert (head.status, head.headers["content-length"]) == (
                get.status,
                get.headers["content-length"],
            )


async def test_options_of_the_server_and_of_nothing() -> None:
    server = await answer_to(app_of(FakePool()), "OPTIONS", "*")
    assert (server.status, server.headers["allow"]) == (204, "GET, HEAD, POST, OPTIONS")
    assert (await answer_to(app_of(FakePool()), "OPTIONS", "/nowhere")).status == 404


async def test_path_is_taken_from_the_scope_and_not_from_host() -> None:
    app = create_app(make_service(FakePool(), origins=Origins(hosts=["*"])))
    headers = [("host", "a/livez?x="), ("x", "y")]
    exchange = await answer_to(app, "GET", "/nowhere", headers=headers)
    assert exchange.status == 404


@pytest.mark.parametrize("path", ["/livez", "/v1/completions", "/nowhere"])
async def test_request_id_is_echoed_when_it_is_harmless(path: str) -> None:
    exchange = await answer_to(
        app_of(FakePool()), "GET", path, headers=[("X-Request-Id", "a.B_9-z")]
    )
    assert exchange.headers["x-request-id"] == "a.B_9-z"


@pytest.mark.parametrize("given", ["", "a b", "a\nb", "x" * 65, "é", "a;b", "abc\n"])
async def test_any_other_request_id_is_replaced(given: str) -> None:
    headers = [("x-request-id", given)]
    ids = [
        (await answer_to(app_of(FakePool()), "GET", "/livez", headers=headers)).headers[
            "x-request-id"
        ]
        for _ in range(2)
    ]
    assert len(set(ids)) == 2
    assert given not in ids


async def test_stream_carries_a_request_id() -> None:
    exchange = await complete(app_of(FakePool()), stream=True, max_tokens=0).finished()
    assert "x-request-id" in exchange.headers


async def _broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise KeyError("secret")


async def _broken_in_the_middle(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise KeyError("secret")


async def test_fault_of_ours_is_a_500_without_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    exchange = await answer_to(
        Envelope(_broken, 1, Observer()), "GET", "/x\n", headers=[("x-request-id", "id-1")]
    )
    assert exchange.status == 500
    assert exchange.error["code"] == "internal_error"
    assert b"secret" not in exchange.body
    assert exchange.headers["x-request-id"] == "id-1"
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert (
        TextFormatter("worker 0")
        .format(record)
        .splitlines()[0]
        .endswith(r'ERROR worker 0: request failed request_id=id-1 path="/x\n"')
    )


async def test_fault_in_the_middle_of_an_answer_leaves_it_unfinished() -> None:
    exchange = await answer_to(Envelope(_broken_in_the_middle, 1, Observer()), "GET", "/x")
    assert exchange.status == 200
    assert not exchange.is_complete


async def test_early_answer_reads_the_rest_of_the_body() -> None:
    """Hypercorn 0.18 queues ten pieces and blocks: unread ones would leak the connection."""
    tasks = asyncio.all_tasks()
    chunks = [b"x" * 100] * 50
    exchange = Exchange(app_of(FakePool()), "POST", "/nowhere", chunks)
    await exchange.finished()
    assert exchange.status == 404
    assert exchange.headers["connection"] == "close"
    assert exchange.is_complete
    assert exchange.error["code"] == "unknown_url"
    assert exchange.incoming.empty()
    await settle()
    assert asyncio.all_tasks() == tasks


async def test_early_answer_reaches_the_client_before_the_body_ends() -> None:
    exchange = Exchange(app_of(FakePool()), "POST", "/nowhere", [b"x"] * 20)
    kept = [exchange.incoming.get_nowait() for _ in range(20)]
    for message in kept[:-1]:
        exchange.incoming.put_nowait(message)
    await settle()
    assert exchange.status == 404
    assert exchange.error["code"] == "unknown_url"
    assert not exchange.task.done()
    exchange.incoming.put_nowait(kept[-1])
    await exchange.finished()
    assert exchange.is_complete


async def test_early_answer_does_not_wait_for_ever_for_the_body() -> None:
    tasks = asyncio.all_tasks()
    exchange = Exchange(app_of(FakePool(), drain_timeout_s=0.01), "POST", "/nowhere", [b"x", b"x"])
    exchange.incoming.get_nowait()
    exchange.incoming.get_nowait()
    await exchange.finished()
    assert exchange.is_complete
    await settle()
    assert asyncio.all_tasks() == tasks


async def test_answer_without_an_unread_body_keeps_the_connection() -> None:
    assert "connection" not in (await answer_to(app_of(FakePool()), "GET", "/livez")).headers
    assert "connection" not in (await answer_to(app_of(FakePool()), "GET", "/nowhere")).headers


async def test_declared_body_beyond_the_cap_is_refused_unread() -> None:
    app = app_of(FakePool(), max_body_bytes=1000, drain_timeout_s=0.01)
    exchange = Exchange(app, "POST", "/v1/completions", b"x" * 1001)
    exchange.incoming.get_nowait()
    await exchange.finished()
    assert exchange.status == 413
    assert exchange.error["code"] == "request_too_large"


async def test_chunked_body_beyond_the_cap_is_refused_before_its_end() -> None:
    app = app_of(FakePool(), max_body_bytes=1000)
    headers = [("transfer-encoding", "chunked")]
    exchange = Exchange(app, "POST", "/v1/completions", [b"x" * 100] * 50, headers)
    # What a chunked request really looks like: no length.
    await exchange.finished()
    assert exchange.status == 413
    assert exchange.incoming.empty()
    assert exchange.is_complete


async def test_body_that_does_not_arrive_is_a_408() -> None:
    app = app_of(FakePool(), body_timeout_s=0.01, drain_timeout_s=0.01)
    exchange = Exchange(app, "POST", "/v1/completions", [b"{", b"}"])
    exchange.incoming.get_nowait()
    exchange.incoming.get_nowait()
    await exchange.finished()
    assert exchange.status == 408
    assert "x-should-retry" not in exchange.headers


async def test_client_that_leaves_while_sending_is_not_answered() -> None:
    exchange = Exchange(app_of(FakePool()), "POST", "/v1/completions", [b"{", b"}"])
    exchange.incoming.get_nowait()
    exchange.incoming.get_nowait()
    exchange.leave()
    await exchange.finished()
    assert exchange.messages == []
