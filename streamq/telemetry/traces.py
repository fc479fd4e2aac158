"""Spans of OpenTelemetry: `send` where a task is enqueued, `process` for each attempt, linked.

Owns the names and attributes (the messaging conventions) and the way of the trace context through the
envelope. Knows opentelemetry-api only (the extra `otel`), and loads it for apps that ask for traces.

A `process` span begins a trace of its own with a link to the `send` span: a task may be retried for days,
which no trace survives. `child` makes it the child of the `send` span instead, for short ways.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final, Literal, Protocol

import orjson

from streamq.errors import UsageError

Tracing = Literal["link", "child"]
MODES: Final = ("link", "child")
_PARENT: Final = "traceparent"


class Task(Protocol):
    """What a span tells of a delivery."""

    @property
    def id(self) -> object: ...
    @property
    def type(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def attempt(self) -> int: ...
    @property
    def trace(self) -> bytes: ...


class Sending(Protocol):
    """What a span tells of an enqueue call."""

    @property
    def task_type(self) -> str: ...
    @property
    def tasks(self) -> Sequence[object]: ...
    @property
    def ids(self) -> Sequence[str]: ...
    def carry_trace(self, header: bytes) -> None: ...


def api() -> Any:
    """opentelemetry's trace module; UsageError says how to get it."""
    try:
        from opentelemetry import trace  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError("tracing needs opentelemetry-api: pip install 'streamq[otel]'") from None
    return trace


class Tracer:
    """Makes the spans of one app: a hook. `names`: what each kind of outcome is called. Raises UsageError
    where the extra is missing or the mode is none."""

    def __init__(self, app: str, mode: Tracing, names: Mapping[type, str]) -> None:
        if mode not in MODES:
            raise UsageError(f"tracing={mode!r}: must be 'link', 'child' or None")
        self._app = app
        self._mode = mode
        self._names = names
        self._api = api()
        self._tracer = self._api.get_tracer("streamq")

    def _attributes(self, task_type: str, operation: str) -> dict[str, object]:
        return {
            "messaging.system": "streamq",
            "messaging.operation.name": operation,
            "messaging.operation.type": operation,
            "messaging.destination.name": task_type,
            "streamq.app": self._app,
        }

    # -- the producer's side ---------------------------------------------------------------------------

    @contextmanager
    def around_enqueue(self, call: Sending) -> Generator[None]:
        """The span around an enqueue call, which its tasks carry (nothing where there is no provider)."""
        attributes, count = self._attributes(call.task_type, "send"), len(call.tasks)
        if count > 1:
            attributes["messaging.batch.message_count"] = count
        with self._tracer.start_as_current_span(
            f"send {call.task_type}", kind=self._api.SpanKind.PRODUCER, attributes=attributes
        ) as span:
            if header := carried():
                call.carry_trace(header)
            try:
                yield
            except Exception as error:
                span.set_attribute("error.type", type(error).__qualname__)
                raise
            if count == 1:
                span.set_attribute("messaging.message.id", "".join(call.ids))

    # -- the worker's side -----------------------------------------------------------------------------

    @contextmanager
    def around_delivery(self, task: Task, worker: str) -> Generator[None]:
        """The span of an attempt; current in the handler, and in what is logged of its end."""
        sent = received(task.trace)
        before = self._api.get_current_span(sent).get_span_context() if sent is not None else None
        known = before is not None and before.is_valid
        attributes = self._attributes(task.type, "process") | {
            "messaging.message.id": str(task.id),
            "messaging.message.body.size": len(task.payload),
            "messaging.client.id": worker,
            "streamq.task.attempt": task.attempt,
        }
        with (
            attached(self._begin(sent)),
            self._tracer.start_as_current_span(
                f"process {task.type}",
                kind=self._api.SpanKind.CONSUMER,
                attributes=attributes,
                links=[self._api.Link(before)] if known and self._mode == "link" else None,
                record_exception=False,
            ),
        ):
            yield

    def _begin(self, sent: object) -> object:
        """The context to start in: the baggage that came with the task, and in `child` mode its trace."""
        if sent is None:
            return None
        return sent if self._mode == "child" else self._api.set_span_in_context(self._api.INVALID_SPAN, sent)

    def attempt_ended(self, _task: Task, outcome: object, _seconds: float | None) -> None:
        """Note on the current span what became of the task."""
        span = self._api.get_current_span()
        if span.is_recording():
            span.set_attribute("streamq.task.outcome", self._names.get(type(outcome), "fenced"))

    def attempt_failed(self, _task: Task, error: str, message: str, traceback: str) -> None:
        """Note on the current span that the attempt failed."""
        span = self._api.get_current_span()
        if span.is_recording():
            span.add_event(
                "exception",
                {"exception.type": error, "exception.message": message, "exception.stacktrace": traceback},
            )
            span.set_attribute("error.type", error)
            span.set_status(self._api.StatusCode.ERROR, f"{error}: {message}"[:200])


def carried() -> bytes:
    """The current trace context as a header: the bare traceparent, or JSON where there is more to carry."""
    from opentelemetry import propagate  # noqa: PLC0415 - an extra

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    if list(carrier) == [_PARENT]:
        return carrier[_PARENT].encode()
    return orjson.dumps(carrier) if carrier else b""


def received(header: bytes) -> Any:
    """The context that a header carries; None where there is none. Garbage is none, and never raises."""
    from opentelemetry import context, propagate  # noqa: PLC0415 - an extra

    if not header:
        return None
    try:
        carrier = orjson.loads(header) if header[:1] == b"{" else {_PARENT: header.decode()}
        return propagate.extract(carrier, context=context.Context())
    except Exception:  # noqa: BLE001 - written by another program, read by whatever propagator is set up
        return None


@contextmanager
def continued(header: bytes) -> Generator[None]:
    """In a handler's own process: spans that it makes belong to the attempt's."""
    with nullcontext() if not header else attached(received(header)):
        yield


@contextmanager
def attached(found: Any) -> Generator[None]:
    """Make a context the current one; None is an empty one."""
    from opentelemetry import context  # noqa: PLC0415 - an extra

    token = context.attach(context.Context() if found is None else found)
    try:
        yield
    finally:
        context.detach(token)


def trace_id() -> str:
    """The current trace's id in hex; '' where there is none. Loads nothing."""
    loaded = sys.modules.get("opentelemetry.trace")
    if loaded is None:
        return ""
    context = loaded.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def flush(seconds: float = 2.0) -> None:
    """Send what is recorded: a worker process ends without its exit hooks."""
    loaded = sys.modules.get("opentelemetry.trace")
    provider = None if loaded is None else loaded.get_tracer_provider()
    flush_all = getattr(provider, "force_flush", None)  # the API's own provider has none
    if flush_all is not None:
        flush_all(round(seconds * 1000))
