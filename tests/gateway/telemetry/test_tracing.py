import dataclasses
from itertools import pairwise

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from backend.wire.messages import FinishReason
from gateway.app import create_app
from gateway.telemetry.observer import Observer
from gateway.telemetry.tracing import Tracing
from tests.gateway.fakes import Exchange, FakePool, make_service, settle

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def spans_of(pool: FakePool, *, fails: bool = False, parent: str = "") -> list[ReadableSpan]:
    """Trace one completion and a probe."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter, "tiny")

    service = dataclasses.replace(make_service(pool), observer=Observer(tracing=tracing))
    app = create_app(service)
    headers = [("traceparent", parent)] if parent else []
    body = msgspec.json.encode({"model": "tiny", "prompt": "hi", "max_tokens": 3})
    exchange = Exchange(app, "POST", "/v1/completions", body, headers)
    if fails:
        await settle()
        pool.send(0, [], FinishReason.ERROR, error="it broke")
    await exchange.finished()
    await Exchange(app, "GET", "/livez").finished()
    tracing.close()
    return list(exporter.get_finished_spans())


async def test_request_is_a_span_with_its_turns() -> None:
    [span] = await spans_of(FakePool(script=(b"abc", FinishReason.LENGTH)))
    assert span.name == "POST /v1/completions"
    facts = dict(span.attributes or {})
    assert facts["gen_ai.usage.output_tokens"] == 3
    assert facts["gen_ai.response.finish_reasons"] == ("length",)
    assert facts["http.response.status_code"] == 200
    assert str(facts["unisono.request_id"]).startswith("req-")
    assert [event.name for event in span.events] == ["queued", "decode", "finished"]
    assert span.start_time is not None and span.end_time is not None
    times = [span.start_time, *(event.timestamp for event in span.events), span.end_time]
    # Each is made with a clock of its own reading.
    assert all(later - earlier > -1_000_000 for earlier, later in pairwise(times))
    assert span.parent is None


async def test_caller_s_span_is_the_parent() -> None:
    [span] = await spans_of(FakePool(script=(b"a", FinishReason.STOP)), parent=PARENT)
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    [span] = await spans_of(FakePool(script=(b"a", FinishReason.STOP)), parent="nonsense\n")
    assert span.parent is None


async def test_failure_is_an_error() -> None:
    [span] = await spans_of(FakePool(), fails=True)
    assert span.status.status_code is StatusCode.ERROR


def test_settings_ask_for_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.commands import serve
    from gateway.options import SettingsError

    monkeypatch.setattr(serve, "_has_otel", lambda: False)
    with pytest.raises(SettingsError, match=r"pip install '\.\[otel\]'"):
        serve.run({"otel_endpoint": "http://127.0.0.1:4318/v1/traces"})
