"""Trace context (W3C `traceparent`) from request to message to message; one span a batch.

Spans leave the process only when OTEL_EXPORTER_OTLP_ENDPOINT is set; ids travel always.
"""

import contextvars
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext, TraceFlags

from mospay_shared.contracts.envelope import Event

_PARENT = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$")
_current: contextvars.ContextVar[str | None] = contextvars.ContextVar("traceparent", default=None)
_tracer: trace.Tracer | None = None
LINK_LIMIT = 50


def configure_tracing(service: str) -> None:
    """Export sampled spans when an OTLP endpoint is configured; otherwise cost nothing."""
    global _tracer
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return
    # Here, because a service that exports nothing need not load what exports.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    ratio = float(os.environ.get("OTEL_TRACES_SAMPLER_ARG", "0.05"))
    provider = TracerProvider(
        resource=Resource.create({"service.name": service}),
        sampler=ParentBased(TraceIdRatioBased(ratio)),
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("mospay")


def new_traceparent(inherited: str | None = None) -> str:
    """Return a traceparent for work that starts here: a child of `inherited`, or a new trace."""
    match = _PARENT.match(inherited or "")
    trace_id, flags = (match[1], match[3]) if match else (secrets.token_hex(16), "01")
    return f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"


def set_traceparent(value: str | None) -> None:
    """Make this the context of what the current task does from here on."""
    _current.set(value)


def current_traceparent() -> str | None:
    """Return the context of the current task."""
    return _current.get()


def _link(traceparent: str | None) -> Link | None:
    match = _PARENT.match(traceparent or "")
    if not match:
        return None
    context = SpanContext(int(match[1], 16), int(match[2], 16), True, TraceFlags(int(match[3], 16)))
    return Link(context)


@contextmanager
def batch_span(name: str, events: Sequence[Event[Any]]) -> Iterator[None]:
    """Open one span over a batch, linked to the events it handles."""
    if _tracer is None:
        yield
        return
    links = [link for e in events[:LINK_LIMIT] if (link := _link(e.envelope.traceparent))]
    with _tracer.start_as_current_span(name, links=links) as span:
        span.set_attribute("messaging.batch.message_count", len(events))
        yield
