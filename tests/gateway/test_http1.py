"""Request targets in the four forms of RFC 9112, spoken to the protocol without a socket."""

import asyncio
from typing import Any

import pytest
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Event, RawData
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from gateway.http1 import Http1

pytestmark = pytest.mark.anyio


async def exchange(request: bytes) -> tuple[bytes, dict[str, Any]]:
    """Return what a request is answered with, and the scope that the application got, if any."""
    seen: dict[str, Any] = {}
    sent: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def send(event: Event) -> None:
        if isinstance(event, RawData):
            sent.append(event.data)

    async with TaskGroup(asyncio.get_running_loop()) as tasks:
        protocol = Http1(
            wrap_app(app, 1 << 16, "asgi"),
            Config(),
            WorkerContext(None),
            tasks,
            ConnectionState({}),
            False,
            ("127.0.0.1", 1),
            ("127.0.0.1", 80),
            send,
            "http/1.1",
        )
        await protocol.handle(RawData(request))
    return b"".join(sent), seen


def head(method: str, target: str) -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: given\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("method", "target", "path", "query", "host"),
    [
        ("GET", "/v1/models", "/v1/models", b"", b"given"),
        ("GET", "/v1/models?x=http://a/", "/v1/models", b"x=http://a/", b"given"),
        ("GET", "http://h:1/v1/models", "/v1/models", b"", b"h:1"),
        ("GET", "HTTPS://[::1]:1/livez?a=b", "/livez", b"a=b", b"[::1]:1"),
        ("GET", "http://h", "/", b"", b"h"),
        ("GET", "http://h?a", "/", b"a", b"h"),
        ("OPTIONS", "*", "*", b"", b"given"),
        ("OPTIONS", "http://h", "*", b"", b"h"),
        ("GET", "//livez", "//livez", b"", b"given"),
    ],
)
async def test_target_becomes_a_path(
    method: str, target: str, path: str, query: bytes, host: bytes
) -> None:
    answer, scope = await exchange(head(method, target))
    assert answer.startswith(b"HTTP/1.1 204")
    assert (scope["path"], scope["query_string"]) == (path, query)
    assert [value for name, value in scope["headers"] if name == b"host"] == [host]


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "*", 400),
        ("GET", "livez", 400),
        ("GET", "h:80", 400),
        ("GET", "ftp://h/livez", 400),
        ("GET", "http:///livez", 400),
        ("GET", "http://user@h/livez", 400),
        ("GET", "http://h/livez#x", 400),
        ("CONNECT", "h:80", 501),
        ("CONNECT", "/livez", 501),
    ],
)
async def test_target_of_another_form_is_refused(method: str, target: str, status: int) -> None:
    answer, scope = await exchange(head(method, target))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert not scope
