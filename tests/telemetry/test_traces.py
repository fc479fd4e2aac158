"""Spans through a real queue and worker, as OpenTelemetry's own exporter sees them; and the log lines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from streamq import StreamQ, UsageError, get_context
from streamq.model.task import Accepted
from streamq.telemetry import logs, traces
from tests.running import serving, working
from tests.telemetry import traced

PROVIDER = TracerProvider()
EXPORTER = InMemorySpanExporter()
PROVIDER.add_span_processor(SimpleSpanProcessor(EXPORTER))


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", PROVIDER)
    EXPORTER.clear()
    yield EXPORTER
    EXPORTER.clear()


@pytest.fixture
def app(url: str, spans: InMemorySpanExporter) -> StreamQ:
    return StreamQ("shop", url, tracing="link")


def named(spans: InMemorySpanExporter, name: str) -> list[Any]:
    """Spans by name; their optional parts are there, or the test fails on them."""
    return [span for span in spans.get_finished_spans() if span.name == name]


def trace_of(span: Any) -> int:
    number: int = span.get_span_context().trace_id
    return number


async def test_an_attempt_is_linked_to_its_enqueue_call(app: StreamQ, spans: InMemorySpanExporter) -> None:
    inside: list[tuple[int, object]] = []

    @app.task
    async def email(to: str) -> str:
        inside.append((trace_of(trace.get_current_span()), baggage.get_baggage("tenant")))
        return to

    async with working(app):
        token = context.attach(baggage.set_baggage("tenant", "acme"))
        with PROVIDER.get_tracer("web").start_as_current_span("request") as request:
            handle = await email.aenqueue("ada")
        context.detach(token)
        assert await handle.aresult(5) == "ada"
    [send], [process] = named(spans, "send email"), named(spans, "process email")
    assert (send.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert trace_of(send) == trace_of(request)
    assert process.parent is None
    assert trace_of(process) != trace_of(send)
    assert [link.context.span_id for link in process.links] == [send.context.span_id]
    assert inside == [(trace_of(process), "acme")]
    assert send.attributes["messaging.operation.type"] == "send"
    assert send.attributes["messaging.message.id"] == handle.id
    assert dict(process.attributes) == {
        "messaging.system": "streamq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "email",
        "messaging.message.id": handle.id,
        "messaging.message.body.size": len(b'{"to":"ada"}'),
        "messaging.client.id": process.attributes["messaging.client.id"],
        "streamq.app": "shop",
        "streamq.task.attempt": 1,
        "streamq.task.outcome": "completed",
    }
    assert {span.name for span in spans.get_finished_spans()} == {"request", "send email", "process email"}


async def test_child_mode_goes_on_with_the_trace(url: str, spans: InMemorySpanExporter) -> None:
    app = StreamQ("shop", url, tracing="child")

    @app.task
    def email() -> str:
        return str(trace_of(trace.get_current_span()))  # in a thread

    async with working(app):
        inside = await (await email.aenqueue()).aresult(5)
    [send], [process] = named(spans, "send email"), named(spans, "process email")
    assert process.parent.span_id == send.context.span_id
    assert inside == str(trace_of(send)) == str(trace_of(process))
    assert not process.links


async def test_every_attempt_has_a_span_with_its_failure(app: StreamQ, spans: InMemorySpanExporter) -> None:
    @app.task(max_attempts=2, backoff=lambda _: 0)
    async def flaky() -> None:
        if get_context().attempt == 1:
            raise ValueError("no")

    async with serving(app):
        await (await flaky.aenqueue()).aresult(5)
    first, second = named(spans, "process flaky")
    assert first.status.status_code is StatusCode.ERROR
    assert first.attributes["streamq.task.outcome"] == "retried"
    assert first.attributes["error.type"] == "ValueError"
    [event] = first.events
    assert event.attributes["exception.message"] == "no"
    assert "raise ValueError" in str(event.attributes["exception.stacktrace"])
    assert (second.attributes["streamq.task.attempt"], second.status.is_ok) == (2, True)
    assert first.links[0].context.span_id == second.links[0].context.span_id


async def test_delayed_and_bulk_tasks_carry_their_trace(app: StreamQ, spans: InMemorySpanExporter) -> None:
    @app.task
    async def email(n: int) -> None: ...

    async with serving(app):
        handles = await app.aenqueue_many([email.bind(n) for n in range(3)])
        handles += app.enqueue_many([email.options(delay=0.05).bind(9)])
        for handle in handles:
            await handle.aresult(5)
    bulk, single = named(spans, "send email")
    assert bulk.attributes["messaging.batch.message_count"] == 3
    processed = named(spans, "process email")
    linked = [span.links[0].context.span_id for span in processed]
    assert linked.count(bulk.context.span_id) == 3
    assert linked.count(single.context.span_id) == 1


async def test_a_handler_in_a_process_belongs_to_the_attempt(url: str, spans: InMemorySpanExporter) -> None:
    app = traced.at(url)
    async with working(app):
        found = await (await app.asend("inside", {})).aresult(20)
    [process] = named(spans, "process inside")
    assert found == [f"{trace_of(process):032x}", f"{process.context.span_id:016x}"]


def test_a_refused_enqueue_is_an_error(app: StreamQ, spans: InMemorySpanExporter) -> None:
    @app.task(max_backlog=1)
    def email() -> None: ...

    email.enqueue()
    with pytest.raises(Exception, match="backlog limit"):
        email.enqueue()
    _, refused = named(spans, "send email")
    assert refused.status.status_code is StatusCode.ERROR
    assert refused.attributes["error.type"] == "QueueFull"


async def test_without_tracing_nothing_is_carried_and_no_span_made(
    url: str, spans: InMemorySpanExporter
) -> None:
    app = StreamQ("shop", url)

    @app.task
    async def email() -> None: ...

    with PROVIDER.get_tracer("web").start_as_current_span("request"):
        handle = email.enqueue()
    assert app.inspector.task(handle.id).fields.keys() == {"p"}
    async with working(app):
        await handle.aresult(5)
    assert [span.name for span in spans.get_finished_spans()] == ["request"]


def test_the_header_is_the_bare_traceparent_or_json(spans: InMemorySpanExporter) -> None:
    assert traces.current_header() == b""
    with PROVIDER.get_tracer("t").start_as_current_span("s") as span:
        header = traces.current_header()
        assert header.decode().startswith(f"00-{trace_of(span):032x}-{span.get_span_context().span_id:016x}-")
        token = context.attach(baggage.set_baggage("a", "b"))
        assert json.loads(traces.current_header()) == {"traceparent": header.decode(), "baggage": "a=b"}
        context.detach(token)
    assert trace_of(trace.get_current_span(traces.context_from(header))) == trace_of(span)


@pytest.mark.parametrize(
    "header", [b"", b"\xff\xfe", b"{", b"[1]", b'{"traceparent": 3}', b"00-0-0-0", b"{}"]
)
async def test_garbage_in_the_header_is_no_trace(
    app: StreamQ, spans: InMemorySpanExporter, header: bytes
) -> None:
    @app.task
    async def email() -> None: ...

    bound = app.bound("email")
    task = bound.task._replace(fields=(("t", header),))
    [answer] = app._client.enqueue("email", 0, [task])
    assert isinstance(answer, Accepted)
    async with working(app):
        await app.handle(f"email:0:{answer.local}").aresult(5)
    assert all(not span.links for span in named(spans, "process email"))


def test_a_mode_or_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="must be 'link', 'child' or None"):
        StreamQ("shop", tracing="yes")  # type: ignore[arg-type]
    monkeypatch.setenv("STREAMQ_TRACING", "child")
    assert StreamQ("shop").registry.tracer is not None
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(UsageError, match="pip install 'streamq\\[otel\\]'"):
        StreamQ("shop", tracing="link")


def test_a_propagator_that_fails_costs_the_trace_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(propagate, "extract", broken)
    assert traces.context_from(b"00-x") is None


# -- logs ------------------------------------------------------------------------------------------------


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    before, handlers = structlog.get_config(), logging.getLogger().handlers[:]
    logs.configure("info", "json")
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    structlog.configure(**before)
    logging.getLogger().handlers[:] = handlers
    logs._SETTINGS.clear()


async def test_each_line_that_a_handler_logs_names_its_task(
    app: StreamQ, spans: InMemorySpanExporter, logged: Any
) -> None:
    @app.task(max_attempts=1)
    async def email() -> None:
        structlog.get_logger().info("from structlog")
        logging.getLogger("theirs").warning("from logging")

    @app.task(max_attempts=1)
    def image() -> None:
        structlog.get_logger().info("from a thread")
        raise ValueError("no")

    async with working(app) as worker:
        handle, other = await email.aenqueue(), await image.aenqueue()
        await handle.aresult(5)
        with pytest.raises(Exception, match="no"):
            await other.aresult(5)
    lines = {line["event"]: line for line in logged()}
    [process] = named(spans, "process email")
    expected = {"task": handle.id, "type": "email", "attempt": 1, "worker": worker.name}
    for event in ("from structlog", "from logging"):
        assert lines[event].items() >= (expected | {"trace_id": f"{trace_of(process):032x}"}).items()
    assert lines["from a thread"]["task"] == other.id
    assert lines["task.dead"].items() >= {"task": other.id, "type": "image", "attempt": 1}.items()
    assert lines["task.dead"]["trace_id"] == lines["from a thread"]["trace_id"]
    assert "task" not in lines["worker.stopped"]


def test_a_process_logs_in_the_same_form(jobs_log: str) -> None:
    assert {"task", "type", "attempt", "worker"} <= json.loads(jobs_log).keys()


@pytest.fixture
async def jobs_log(url: str, spans: InMemorySpanExporter, tmp_path: Path, capfd: Any) -> str:
    before, handlers = structlog.get_config(), logging.getLogger().handlers[:]
    logs.configure("info", "json")
    app = traced.at(url)
    async with working(app):
        await (await app.asend("speaks", {})).aresult(20)
    structlog.configure(**before)
    logging.getLogger().handlers[:] = handlers
    logs._SETTINGS.clear()
    lines: list[str] = [line for line in capfd.readouterr().err.splitlines() if "from a process" in line]
    return lines[0]
