import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.access_log import log_exchange
from gateway.telemetry.exchange import Exchange
from gateway.telemetry.logs import JsonFormatter, TextFormatter, fields

EVIL = "a\nERROR worker 0: forged\r\x1b[2J\u2028\u202e\x9b x=1"


def record(message: str, values: Mapping[str, object], *, failed: bool = False) -> Any:
    exc_info = None
    if failed:
        try:
            raise ValueError(EVIL)
        except ValueError:
            exc_info = sys.exc_info()
    made = logging.LogRecord("unisono", logging.INFO, "f.py", 1, message, (), exc_info)
    made.__dict__ |= fields(**values)
    return made


def test_text_is_one_line_of_pairs() -> None:
    line = TextFormatter("worker 0").format(record("request", {"status": 200, "a": "b c"}))
    assert line.split(" ", 1)[1] == 'INFO worker 0: request status=200 a="b c"'
    assert line.split()[0].endswith("Z")


def test_json_is_an_object_with_the_fields() -> None:
    event = json.loads(JsonFormatter("worker 0").format(record("request", {"status": 200})))
    assert event.pop("time").endswith("Z")
    assert event == {
        "level": "info",
        "process": "worker 0",
        "logger": "unisono",
        "message": "request",
        "status": 200,
    }


def test_traceback_forges_no_event() -> None:
    broken = record("failed", {}, failed=True)
    rest = TextFormatter("worker 0").format(broken).splitlines()[1:]
    assert any("forged" in line for line in rest)
    assert all(line.startswith("    ") and line.isprintable() for line in rest)
    event = json.loads(JsonFormatter("worker 0").format(broken))
    assert "ValueError" in event["exception"]


@given(st.text(), st.text())
def test_nothing_breaks_a_line_or_moves_a_cursor(message: str, value: str) -> None:
    made = record(message.replace("%", ""), {"value": value})
    for formatter in (TextFormatter("x"), JsonFormatter("x")):
        line = formatter.format(made)
        assert len(line.splitlines()) == 1 or isinstance(formatter, JsonFormatter)
        assert "\n" not in line and "\x1b" not in line and "\r" not in line


@pytest.mark.parametrize("value", ["\ud800", EVIL, {"a": 1}, None, object])
def test_any_value_can_be_logged(value: object) -> None:
    made = record("m", {"value": value})
    TextFormatter("x").format(made).encode()
    json.loads(JsonFormatter("x").format(made).encode())


def test_libraries_warnings_and_uncaught_errors_are_events() -> None:
    program = (
        "import warnings, logging\n"
        "from gateway.telemetry.logs import configure\n"
        "configure('test', 'info', 'json')\n"
        "logging.getLogger('hypercorn').error('from a library')\n"
        "warnings.warn('careful')\n"
        "raise ValueError('the end')\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    events = [json.loads(line) for line in run.stderr.splitlines()]
    assert [event["logger"] for event in events] == ["hypercorn", "py.warnings", "unisono"]
    assert "the end" in events[2]["exception"]


def test_exchange_is_logged_without_what_was_asked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_exchange(Exchange("GET", "/v1/models", 200, "req-1", "team-a", 1.0, 1.25))
    log_exchange(Exchange("GET", "/livez", 200, "req-2", "", 1.0, 1.25))
    [event] = caplog.records
    assert event.__dict__["fields"] == {
        "request_id": "req-1",
        "method": "GET",
        "route": "/v1/models",
        "status": 200,
        "duration_ms": 250.0,
        "key_id": "team-a",
    }
