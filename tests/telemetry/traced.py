"""Handlers that run in processes of their own, which import them by name."""

from __future__ import annotations

import structlog
from opentelemetry import trace

from streamq import StreamQ

app = StreamQ("traced", "unix:///nowhere.sock", tracing="link")


def at(url: str) -> StreamQ:
    """The same handlers at another server."""
    found = StreamQ("traced", url, tracing="link")
    found.registry.handlers.update(app.registry.handlers)
    return found


@app.task(executor="process", max_attempts=1)
def inside() -> list[str]:
    context = trace.get_current_span().get_span_context()
    return [f"{context.trace_id:032x}", f"{context.span_id:016x}"]


@app.task(executor="process", max_attempts=1)
def speaks() -> None:
    structlog.get_logger().info("from a process")
