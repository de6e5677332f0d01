"""What an operator learns from a request's line, and what nobody does."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from backend.wire.messages import FinishReason
from gateway.app import create_app
from gateway.service import Service
from gateway.telemetry.logs import JsonFormatter, TextFormatter
from gateway.telemetry.observer import Observer
from tests.gateway.fakes import Exchange, FakePool, make_service

pytestmark = pytest.mark.anyio

KEY = "sk-0123456789ab-AbC_dEf-123"


def logging_service() -> Service:
    pool = FakePool(script=(b"ab", FinishReason.LENGTH))
    return replace(make_service(pool), observer=Observer(access_log=True))


async def line_of(
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    fields: dict[str, Any] | None = None,
    headers: Sequence[tuple[str, str]] = (),
    level: int = logging.INFO,
) -> dict[str, Any]:
    """Return the fields of the line that a request leaves."""
    caplog.set_level(level, "unisono.access")
    body = json.dumps(fields).encode() if fields is not None else b""
    await Exchange(create_app(logging_service()), method, path, body, headers).finished()
    [record] = [record for record in caplog.records if record.name == "unisono.access"]
    for formatter in (TextFormatter("worker 0"), JsonFormatter("worker 0")):
        assert len(formatter.format(record).splitlines()) == 1
    told: dict[str, Any] = record.__dict__["fields"]
    return told


async def test_path_without_a_route_is_told_bounded(caplog: pytest.LogCaptureFixture) -> None:
    told = await line_of(caplog, "GET", "/v1/chat/completion\x1b[2J\n" + "x" * 1000)
    assert (told["route"], told["status"], told["error"]) == ("other", 404, "unknown_url")
    assert told["path"].startswith("/v1/chat/completion\x1b")
    assert len(told["path"]) < 210
    line = TextFormatter("x").format(caplog.records[-1])
    assert r"/v1/chat/completion\x1b[2J\nxxx" in line and "\x1b" not in line


async def test_path_with_a_route_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    assert "path" not in await line_of(caplog, "GET", "/v1/models/no-such")


async def test_refusal_is_told_with_its_field(caplog: pytest.LogCaptureFixture) -> None:
    fields = {"model": "tiny", "prompt": "hi", "n": 1000}
    told = await line_of(caplog, "POST", "/v1/completions", fields)
    assert (told["status"], told["error"], told["param"]) == (400, "integer_above_max_value", "n")
    assert not {"reason", "client", "user_agent"} & told.keys()


async def test_ignored_fields_are_told(caplog: pytest.LogCaptureFixture) -> None:
    fields = {"model": "tiny", "prompt": "hi", "foo": 1, "bar": 2, "max_tokens": 2}
    told = await line_of(caplog, "POST", "/v1/completions", fields)
    assert (told["status"], told["ignored"]) == (200, "foo, bar")


async def test_debug_tells_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    fields = {"model": "tiny", "prompt": "hi", "n": 1000}
    headers = [("user-agent", "curl/8" + "x" * 500)]
    told = await line_of(caplog, "POST", "/v1/completions", fields, headers, logging.DEBUG)
    assert "Expected a value <= 128" in told["reason"]
    assert told["client"] == "127.0.0.1"
    assert told["user_agent"].startswith("curl/8") and len(told["user_agent"]) < 210


@pytest.mark.parametrize("path", [f"/v1/completions/{KEY}", "/v1/completions", f"/{KEY}/v1"])
async def test_neither_prompts_nor_keys_are_told(
    caplog: pytest.LogCaptureFixture, path: str
) -> None:
    fields = {"model": "tiny", "prompt": "my secret", "temperature": [KEY], "stop": KEY}
    headers = [("authorization", f"Bearer {KEY}"), ("x-api-key", KEY), ("user-agent", KEY)]
    told = await line_of(caplog, "POST", path, fields, headers, logging.DEBUG)
    text = str(told)
    assert "secret" not in text and "0123456789ab" not in text and "AbC" not in text


async def test_refusal_at_the_gate_is_told(caplog: pytest.LogCaptureFixture) -> None:
    headers = [("origin", "https://evil.example")]
    told = await line_of(caplog, "GET", "/v1/models", None, headers)
    assert (told["status"], told["error"]) == (403, "origin_not_allowed")
