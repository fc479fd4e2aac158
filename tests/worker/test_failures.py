"""What a user sees of a failed attempt: a line, the traceback where it is wanted, a record of `logging`."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
import structlog
from tenacity import wait_fixed

from streamq import StreamQ, TaskDead
from streamq.telemetry import logs
from tests.conftest import command
from tests.letters import all_dead
from tests.running import clean, serving, until
from tests.worker import handlers

HERE = "tests/worker/test_failures.py"


class Tracker(logging.Handler):
    """An error tracker, which listens to the standard library's logging."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def of(self, name: str) -> list[logging.LogRecord]:
        return [record for record in self.records if record.name == name]


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    found = Tracker()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    logs.configure("info", "json")
    root.addHandler(found)
    yield found
    root.handlers[:], level = before
    root.setLevel(level)
    logs._SETTINGS.clear()


def lines_of(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def boom() -> None:
    raise ValueError("no such account\nsecond line")  # the place


@pytest.mark.parametrize("kind", ["async", "thread", "process"])
async def test_a_failure_is_one_line_and_a_record(
    app: StreamQ, capfd: pytest.CaptureFixture[str], tracker: Tracker, kind: str
) -> None:
    async def on_loop() -> None:
        boom()

    def in_thread() -> None:
        boom()

    app_: StreamQ = app
    if kind == "process":
        app_ = handlers.at(str(app.address))
        task: Any = handlers.explodes
    else:
        function: Any = on_loop if kind == "async" else in_thread
        task = app.task(name="explodes", max_attempts=2, backoff=wait_fixed(0.01))(function)
    async with serving(app_):
        handle = await task.aenqueue()
        with pytest.raises(TaskDead):
            await handle.aresult(20)
        await until(lambda: len(tracker.of("streamq.task")) == 2)
    lines = [line for line in lines_of(capfd) if line["event"] in ("task.retried", "task.dead")]
    assert [(line["event"], line["level"], line["attempt"]) for line in lines] == [
        ("task.retried", "warning", 1), ("task.dead", "error", 2),
    ]  # fmt: skip
    where = "handlers.py" if kind == "process" else HERE
    for line in lines:
        assert line["error"] == "ValueError"
        assert line["message"].startswith("no such account")
        assert where in line["at"]
        assert int(line["at"].rpartition(":")[2]) > 0
        assert line["more"] == f"streamq task show {handle.id}"
        assert "Traceback (most recent call last)" in line["traceback"]
        assert "no such account" in line["traceback"]
        assert line["worker"]
    assert lines[0]["delay_ms"] == 10
    first, last = tracker.of("streamq.task")
    assert (first.levelname, last.levelname) == ("WARNING", "ERROR")
    for record in (first, last):
        assert record.exc_info is not None
        kind_, error, _ = record.exc_info
        assert kind_ is not None
        assert kind_.__name__ == "ValueError"
        assert str(error).startswith("no such account")
        assert "no such account" in logging.Formatter().format(record)
        assert "in boom" in logging.Formatter().format(record)
    clean(app_)


async def test_a_console_shows_the_traceback_at_debug_only(
    app: StreamQ, capfd: pytest.CaptureFixture[str]
) -> None:
    @app.task(max_attempts=1)
    async def explodes() -> None:
        boom()

    @app.task
    async def fine() -> None: ...

    for level in ("info", "debug"):
        logs.configure(level, "console")
        async with serving(app):
            handle = await explodes.aenqueue()
            with pytest.raises(TaskDead):
                await handle.aresult(5)
            await (await fine.aenqueue()).aresult(5)
        said = capfd.readouterr().err
        [line] = [line for line in said.splitlines() if "task.dead" in line]
        assert "ValueError" in line
        assert "no such account\\nsecond line" in line
        assert f"{HERE}:" in line
        assert f"streamq task show {handle.id}" in line
        assert ("in boom" in said) == (level == "debug")
        for event in ("task.started", "task.completed"):
            assert (event in said) == (level == "debug")
    logs._SETTINGS.clear()


@pytest.mark.parametrize("fields", [("p", "not json"), ("p", "{}"), ("x", "y"), ("p", '{"to":"x"}')])
async def test_what_cannot_be_decoded_is_a_line_and_a_record_too(
    app: StreamQ, capfd: pytest.CaptureFixture[str], tracker: Tracker, fields: tuple[str, ...]
) -> None:
    @app.task
    async def email(to: int) -> None: ...

    async with serving(app):
        command(str(app.address), "XADD", "streamq:{shop:0}:email:normal", "*", *fields)
        await until(lambda: len(tracker.of("streamq.task")) == 1)
        dead = all_dead(app.inspector, "email")
    [line] = [one for one in lines_of(capfd) if one["event"] in ("task.dead", "task.undecodable")]
    assert line["level"] == "error"
    assert line["more"] == f"streamq task show {dead[0].id}"
    assert line["reason"] == dead[0].reason
    assert tracker.of("streamq.task")[0].exc_info


async def test_a_log_that_raises_ends_no_slot(app: StreamQ) -> None:
    def broken(_logger: Any, _name: str, event: Any) -> Any:
        if str(event.get("event", "")).startswith("task."):
            raise RuntimeError("the log is broken")
        raise structlog.DropEvent

    @app.task(max_attempts=2, backoff=wait_fixed(0))
    async def explodes() -> None:
        boom()

    structlog.configure(processors=[broken])
    async with serving(app):
        for _ in range(3):
            with pytest.raises(TaskDead):
                await (await explodes.aenqueue()).aresult(5)
    clean(app)


def _rob(url: str, stream: str) -> None:
    """Settle behind the worker's back what it holds."""
    [[entry, *_]] = cast("list[list[bytes]]", command(url, "XPENDING", stream, "workers", "-", "+", 1))
    command(url, "XACK", stream, "workers", entry)
    command(url, "XDEL", stream, entry)


async def test_nothing_is_said_before_it_is_settled(
    app: StreamQ, capfd: pytest.CaptureFixture[str], tracker: Tracker
) -> None:
    """A delivery that somebody else settled meanwhile is neither a retry nor a dead letter."""

    @app.task(max_attempts=1)
    async def robbed() -> None:
        await asyncio.to_thread(_rob, str(app.address), "streamq:{shop:0}:robbed:normal")
        boom()

    said: list[dict[str, Any]] = []

    def told() -> bool:
        said.extend(lines_of(capfd))
        return any(line["event"] == "task.fenced" for line in said)

    async with serving(app):
        await robbed.aenqueue()
        await until(told)
    said += lines_of(capfd)
    assert not [line for line in said if line["event"] in ("task.dead", "task.retried")]
    assert not tracker.of("streamq.task")


# -- timeouts ------------------------------------------------------------------------------------------


def _slow(release: threading.Event) -> dict[str, Any]:
    """Handlers that take too long, each in its way."""

    async def inner() -> None:
        await asyncio.sleep(30)  # it stands here

    async def on_loop() -> None:
        await inner()

    async def deep() -> None:
        async with asyncio.timeout(20):
            await on_loop()

    async def deaf() -> int:
        try:
            await inner()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
        return 1

    async def raises() -> None:
        try:
            await inner()
        finally:
            raise KeyError("the rollback failed")

    def inner_thread() -> None:
        release.wait(30)  # it stands here

    def in_thread() -> None:
        inner_thread()

    return {"async": on_loop, "deep": deep, "deaf": deaf, "raises": raises, "thread": in_thread}


@pytest.mark.parametrize("kind", ["async", "deep", "deaf", "raises", "thread"])
async def test_a_timed_out_attempt_tells_where_it_stood(
    app: StreamQ, capfd: pytest.CaptureFixture[str], tracker: Tracker, kind: str
) -> None:
    release = threading.Event()
    function = _slow(release)[kind]
    task = app.task(name="slow", timeout=0.2, max_attempts=1)(function)
    try:
        async with serving(app):
            handle = await task.aenqueue()
            with pytest.raises(TaskDead) as caught:
                await handle.aresult(10)
            release.set()
    finally:
        release.set()
    [failure] = app.inspector.task(handle.id).failures
    assert failure["error"] == "AttemptTimeout"
    assert "# it stands here" in failure["traceback"] or kind == "raises"
    assert f"{'inner_thread' if kind == 'thread' else 'inner'}\n" in failure["traceback"]
    assert ("the rollback failed" in failure["traceback"]) == (kind == "raises")
    assert ("when it was stopped it raised KeyError: 'the rollback failed'" in str(caught.value)) == (
        kind == "raises"
    )
    [line] = [line for line in lines_of(capfd) if line["event"] == "task.dead"]
    assert HERE in line["at"]


@pytest.mark.parametrize("kind", ["sleeps_deep", "in_native_code"])
async def test_a_timed_out_attempt_in_a_process_tells_where_it_stood(app: StreamQ, kind: str) -> None:
    app_ = handlers.at(str(app.address))
    async with serving(app_):
        handle = await getattr(handlers, kind).aenqueue()
        with pytest.raises(TaskDead):
            await handle.aresult(30)
    [failure] = app_.inspector.task(handle.id).failures
    assert failure["error"] == "AttemptTimeout"
    assert "Handler stack at the timeout" in failure["traceback"]
    assert "# it stands here" in failure["traceback"]
    assert f"in {kind}\n" in failure["traceback"]
    assert "streamq/worker" not in failure["traceback"]


# -- groups --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "thread", "process"])
@pytest.mark.parametrize("what", ["retried", "given up", "asked"])
async def test_exceptions_in_a_group_are_seen(app: StreamQ, kind: str, what: str) -> None:
    if kind == "process":
        app_ = handlers.at(str(app.address))
        async with serving(app_):
            handle = await handlers.groups.aenqueue(what)
            await _as_wanted(app_, handle, what)
        return

    async def on_loop() -> None:
        async def fails() -> None:
            raise handlers.grouped(what)

        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(30))
            group.create_task(fails())

    def in_thread() -> None:
        raise ExceptionGroup("outer", [handlers.grouped(what)])

    function: Any = on_loop if kind == "async" else in_thread
    task = app.task(
        name="groups", max_attempts=2, backoff=wait_fixed(0), retry_on=OSError, give_up_on=FileNotFoundError
    )(function)
    async with serving(app):
        await _as_wanted(app, await task.aenqueue(), what)
    clean(app)


async def _as_wanted(app: StreamQ, handle: Any, what: str) -> None:
    if what == "asked":
        await until(lambda: handle.status() == "scheduled")
        due = int(app.inspector.task(handle.id).detail["due_ms"])
        assert due > 1000 * 3000
        assert handle.cancel() == "cancelled"
        return
    with pytest.raises(TaskDead) as caught:
        await handle.aresult(20)
    assert caught.value.reason == ("gave_up" if what == "given up" else "attempts")


def test_what_has_no_frames_has_no_stack() -> None:
    from streamq.worker import stacks

    assert stacks.of_coroutine(object()) == ""
    assert stacks.of_coroutine(None) == ""
    assert stacks.of_thread(-1) == ""
    assert stacks.of_thread(threading.get_ident()) == ""  # the frames end in streamq's own
