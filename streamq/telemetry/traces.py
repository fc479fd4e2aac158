"""OpenTelemetry spans: `send` for an enqueue call, `process` for each attempt, linked to each other.

Owns the names and attributes (the messaging conventions) and how the envelope carries the trace context.
Depends on opentelemetry-api only (the extra `otel`), and loads it only for apps with tracing on.

By default a `process` span starts its own trace with a link to the `send` span: a task may be retried for
days, longer than any trace lives. Mode `child` makes it a child of the `send` span, for short queues.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import orjson

from streamq.errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.context import Context

Tracing = Literal["link", "child"]
MODES: Final = ("link", "child")
_PARENT: Final = "traceparent"


class Task(Protocol):
    """The parts of a delivery that a span records."""

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


class EnqueueCall(Protocol):
    """The parts of an enqueue call that a span records."""

    @property
    def task_type(self) -> str: ...
    @property
    def tasks(self) -> Sequence[object]: ...
    @property
    def ids(self) -> Sequence[str]: ...
    def carry_trace(self, header: bytes) -> None: ...


def api() -> Any:
    """Return opentelemetry's trace module. Raise UsageError, with the install command, if it is missing."""
    try:
        from opentelemetry import trace  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError(
            "tracing is not available: opentelemetry-api is not installed. Run pip install 'streamq[otel]'."
        ) from None
    return trace


class Tracer:
    """Creates the spans of one app: a hook. `names`: the state name of each kind of outcome. Raises
    UsageError if the extra is missing or the mode is unknown."""

    def __init__(self, app: str, mode: Tracing, names: Mapping[type, str]) -> None:
        if mode not in MODES:
            raise UsageError(f"invalid tracing={mode!r}: must be 'link', 'child' or None")
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

    # -- producer --------------------------------------------------------------------------------------

    @contextmanager
    def around_enqueue(self, call: EnqueueCall) -> Generator[None]:
        """Run an enqueue call in a span whose context its tasks carry (no context without a provider)."""
        attributes, count = self._attributes(call.task_type, "send"), len(call.tasks)
        if count > 1:
            attributes["messaging.batch.message_count"] = count
        with self._tracer.start_as_current_span(
            f"send {call.task_type}", kind=self._api.SpanKind.PRODUCER, attributes=attributes
        ) as span:
            if header := current_header():
                call.carry_trace(header)
            try:
                yield
            except Exception as error:
                span.set_attribute("error.type", type(error).__qualname__)
                raise
            if count == 1:
                span.set_attribute("messaging.message.id", "".join(call.ids))

    # -- worker ----------------------------------------------------------------------------------------

    @contextmanager
    def around_delivery(self, task: Task, worker: str) -> Generator[None]:
        """Run an attempt in a span, which is current in the handler and when the outcome is logged."""
        sent = context_from(task.trace)
        before = self._api.get_current_span(sent).get_span_context() if sent is not None else None
        known = before is not None and before.is_valid
        attributes = self._attributes(task.type, "process") | {
            "messaging.message.id": str(task.id),
            "messaging.message.body.size": len(task.payload),
            "messaging.client.id": worker,
            "streamq.task.attempt": task.attempt,
        }
        with (
            attach(self._start_context(sent)),
            self._tracer.start_as_current_span(
                f"process {task.type}",
                kind=self._api.SpanKind.CONSUMER,
                attributes=attributes,
                links=[self._api.Link(before)] if known and self._mode == "link" else None,
                record_exception=False,
            ),
        ):
            yield

    def _start_context(self, sent: Context | None) -> Context | None:
        """Return the context for a new span: the task's baggage, and its trace too in `child` mode."""
        if sent is None:
            return None
        if self._mode == "child":
            return sent
        baggage: Context = self._api.set_span_in_context(self._api.INVALID_SPAN, sent)
        return baggage

    def attempt_ended(self, _task: Task, outcome: object, _seconds: float | None) -> None:
        """Record the outcome on the current span."""
        span = self._api.get_current_span()
        if span.is_recording():
            span.set_attribute("streamq.task.outcome", self._names.get(type(outcome), "fenced"))

    def attempt_failed(self, _task: Task, error: str, message: str, traceback: str) -> None:
        """Record the failure on the current span."""
        span = self._api.get_current_span()
        if span.is_recording():
            span.add_event(
                "exception",
                {"exception.type": error, "exception.message": message, "exception.stacktrace": traceback},
            )
            span.set_attribute("error.type", error)
            span.set_status(self._api.StatusCode.ERROR, f"{error}: {message}"[:200])


def current_header() -> bytes:
    """Return the current trace context as a header: the bare traceparent, or JSON if there is more."""
    from opentelemetry import propagate  # noqa: PLC0415 - an extra

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    if list(carrier) == [_PARENT]:
        return carrier[_PARENT].encode()
    return orjson.dumps(carrier) if carrier else b""


def context_from(header: bytes) -> Context | None:
    """Return the context in a header; None if there is none or the header is malformed. Never raises."""
    from opentelemetry import context, propagate  # noqa: PLC0415 - an extra

    if not header:
        return None
    try:
        carrier = orjson.loads(header) if header[:1] == b"{" else {_PARENT: header.decode()}
        return propagate.extract(carrier, context=context.Context())
    except Exception:  # noqa: BLE001 - the header is another program's, and any propagator may read it
        return None


@contextmanager
def continue_trace(header: bytes) -> Generator[None]:
    """Make the spans of a handler in a child process children of the attempt's span."""
    with nullcontext() if not header else attach(context_from(header)):
        yield


@contextmanager
def attach(found: Context | None) -> Generator[None]:
    """Make a context the current one; None: an empty context."""
    from opentelemetry import context  # noqa: PLC0415 - an extra

    token = context.attach(context.Context() if found is None else found)
    try:
        yield
    finally:
        context.detach(token)


def trace_id() -> str:
    """Return the current trace id in hex; '' if there is none. Imports nothing."""
    loaded = sys.modules.get("opentelemetry.trace")
    if loaded is None:
        return ""
    context = loaded.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def flush(seconds: float = 2.0) -> None:
    """Export the recorded spans: a worker process ends without running exit hooks."""
    loaded = sys.modules.get("opentelemetry.trace")
    provider = None if loaded is None else loaded.get_tracer_provider()
    flush_all = getattr(provider, "force_flush", None)  # the API's default provider has none
    if flush_all is not None:
        flush_all(round(seconds * 1000))
