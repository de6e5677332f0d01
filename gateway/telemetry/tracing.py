"""One OpenTelemetry span a request, with events where it left the queue and got its first token.

Needs the extra `otel`. A span is made when its request is over, out of the times that were noted
anyway, so nothing is done while tokens flow; sending happens on a thread of the SDK's.
"""

import time
from importlib import metadata

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.telemetry.access_log import PROBES
from gateway.telemetry.exchange import Exchange, GenerationReport

# A worker that ends waits no longer than that for a collector that does not answer.
EXPORT_SECONDS = 2


def otlp_exporter(endpoint: str) -> SpanExporter:
    """Return what sends spans to an OTLP/HTTP collector. endpoint: http://host:4318/v1/traces."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS)


class Tracing:
    """Turns exchanges into spans."""

    def __init__(self, exporter: SpanExporter, model: str) -> None:
        resource = Resource.create(
            {"service.name": "unisono", "service.version": metadata.version("unisono")}
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("unisono")
        self._parents = TraceContextTextMapPropagator()
        self._model = model

    def note_exchange(self, exchange: Exchange) -> None:
        """Make the span of an exchange that is over; a child of the caller's, if it named one."""
        if exchange.route in PROBES:
            return
        parent = self._parents.extract({"traceparent": exchange.traceparent})
        span = self._tracer.start_span(
            f"{exchange.method} {exchange.route}",
            parent,
            SpanKind.SERVER,
            {
                "http.request.method": exchange.method,
                "http.route": exchange.route,
                "http.response.status_code": exchange.status,
                "unisono.request_id": exchange.request_id,
                "unisono.key_id": exchange.tenant,
            },
            start_time=_unix_ns(exchange.started_s),
        )
        if exchange.generated is not None:
            self._describe(span, exchange.generated)
        if exchange.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(_unix_ns(exchange.ended_s))

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def _describe(self, span: Span, generated: GenerationReport) -> None:
        timings = generated.timings
        span.set_attributes(
            {
                "gen_ai.operation.name": "text_completion",
                "gen_ai.request.model": self._model,
                "gen_ai.usage.input_tokens": generated.num_prompt_tokens,
                "gen_ai.usage.output_tokens": generated.num_output_tokens,
                "gen_ai.response.finish_reasons": generated.finish_reasons,
            }
        )
        for name, at_s in (
            ("queued", timings.submitted),
            ("prefill", timings.sent),
            ("decode", timings.first_token),
            ("finished", timings.finished),
        ):
            if at_s:
                span.add_event(name, timestamp=_unix_ns(at_s))
        if "error" in generated.finish_reasons:
            span.set_status(StatusCode.ERROR)


def _unix_ns(monotonic_s: float) -> int:
    """Turn CLOCK_MONOTONIC seconds into nanoseconds since 1970."""
    return time.time_ns() - round((time.monotonic() - monotonic_s) * 1e9)
