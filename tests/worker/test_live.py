"""What handlers tell while they run, and who watches, on a live server."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tenacity import wait_none

from streamq import StreamQ, TaskEvent, WorkerOptions, get_context
from streamq.app import live
from streamq.calls import live as live_calls
from streamq.cli import main
from streamq.dashboard import Principal, dashboard
from streamq.errors import InvalidOption, PayloadError
from streamq.keys import type_keys
from tests.conftest import command
from tests.running import clean, serving, until
from tests.worker import handlers


async def watched(app: StreamQ, task_id: str, after: str = "") -> list[TaskEvent]:
    return [event async for event in app.handle(task_id).events(after)]


def values(events: list[TaskEvent]) -> list[Any]:
    return [event.value for event in events if event.kind == "value"]


async def test_handlers_that_keep_the_loops_threads_busy_hold_up_no_other_tasks_end(app: StreamQ) -> None:
    go = threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))

    @app.task
    async def busy() -> None:
        await asyncio.to_thread(go.wait)

    @app.task
    async def tells(n: int) -> int:
        get_context().progress(n, 2)
        return n

    try:
        async with serving(app, WorkerOptions(concurrency=4)):
            held = await busy.aenqueue()
            await until(lambda: app.handle(held.id).status() == "running")
            assert await (await tells.aenqueue(1)).aresult(10) == 1
            go.set()
            await held.aresult(10)
    finally:
        go.set()
    clean(app)


async def test_a_watcher_sees_all_in_order_and_last_the_end(app: StreamQ) -> None:
    go = asyncio.Event()

    @app.task
    async def order() -> str:
        context = get_context()
        context.progress(1, 2, "half")
        context.emit({"n": 1})
        await go.wait()
        context.emit("é")
        context.progress(2, 2)
        return "done"

    async with serving(app):
        handle = await order.aenqueue()
        early: list[TaskEvent] = []

        async def watch() -> None:
            async for event in handle.events():
                early.append(event)

        watching = asyncio.create_task(watch())
        await until(lambda: len(early) == 2)
        joined: list[TaskEvent] = []

        async def join() -> None:
            async for event in handle.events():
                joined.append(event)

        joining = asyncio.create_task(join())
        await until(lambda: len(joined) == 2)
        go.set()
        await asyncio.wait_for(asyncio.gather(watching, joining), 20)
        late = await watched(app, handle.id)
        behind = await watched(app, handle.id, early[1].id)
    assert [event.kind for event in early] == ["progress", "value", "value", "progress", "end"]
    assert (early[0].done, early[0].total, early[0].text, early[0].attempt) == (1, 2, "half", 1)
    assert values(early) == [{"n": 1}, "é"]
    assert (early[-1].value, early[-1].attempt) == ("completed", 1)
    assert late == early
    assert joined == early, "who joins in the middle gets what was kept and goes on live"
    assert behind == early[2:]
    clean(app)


async def test_all_watchers_of_a_process_share_one_connection(app: StreamQ, url: str) -> None:
    go, number = asyncio.Event(), 500

    @app.task
    async def order() -> None:
        get_context().emit(1)
        await go.wait()
        get_context().emit(2)

    seen: list[Any] = []

    async def watch(handle: Any) -> list[Any]:
        found: list[Any] = []
        async for event in handle.events():
            found.append(event.value)
            seen.append(event.value)
        return found

    def reads() -> int:
        stats = str(command(url, "INFO", "commandstats"))
        return int(stats.partition("cmdstat_xrange:calls=")[2].partition(",")[0])

    def connections() -> int:
        listed: Any = command(url, "CLIENT", "LIST")
        return len(listed.splitlines())

    async with serving(app):
        handle = await order.aenqueue()
        first = asyncio.create_task(watch(handle))
        await until(lambda: seen == [1])
        before = connections()
        others = [asyncio.create_task(watch(handle)) for _ in range(number)]
        await until(lambda: len(seen) == number + 1, 60)
        assert connections() <= before + 5, "a few are for questions, however many watch"
        read = reads()
        go.set()
        every = await asyncio.wait_for(asyncio.gather(first, *others), 60)
        assert reads() < read + number / 5, "those who are woken together read once"
    assert all(found == [1, 2, "completed"] for found in every)
    clean(app)


async def test_another_attempt_says_so(app: StreamQ) -> None:
    @app.task(max_attempts=2, backoff=wait_none())
    def order() -> None:
        get_context().emit(get_context().attempt)
        if get_context().attempt == 1:
            raise ValueError

    async with serving(app):
        handle = await order.aenqueue()
        events = await asyncio.wait_for(watched(app, handle.id), 20)
    assert [(event.kind, event.attempt, event.value) for event in events] == [
        ("value", 1, 1), ("value", 2, 2), ("end", 2, "completed")
    ]  # fmt: skip


async def test_in_a_child_process(url: str) -> None:
    app = handlers.at(url)
    async with serving(app, WorkerOptions(types=("tells",), concurrency=2, process_slots=1)):
        handle = await handlers.tells.aenqueue(5)
        events = await asyncio.wait_for(watched(app, handle.id), 30)
    assert values(events) == [0, 1, 2, 3, 4]
    clean(app)


async def test_the_watcher_of_a_task_that_dies_or_never_was_ends(app: StreamQ) -> None:
    @app.task(max_attempts=1)
    async def order() -> None:
        get_context().emit(1)
        raise ValueError

    async with serving(app):
        handle = await order.aenqueue()
        events = await asyncio.wait_for(watched(app, handle.id), 20)
        assert [event.value for event in events] == [1, "dead"]
        [last] = await asyncio.wait_for(watched(app, "order:0:n1-1"), 20)
        assert last.value == "unknown"


async def test_a_worker_that_lost_the_task_tells_nothing(app: StreamQ, url: str) -> None:
    keys = type_keys("shop", 0, "order")
    done = asyncio.Event()

    @app.task(max_attempts=1)
    async def order() -> None:
        found: Any = command(url, "XPENDING", keys.normal, "workers", "-", "+", 1)
        command(url, "XACK", keys.normal, "workers", found[0][0])
        get_context().emit(1)
        get_context().progress(1)
        done.set()

    async with serving(app) as worker:
        await order.aenqueue()
        await asyncio.wait_for(done.wait(), 20)
        await until(lambda: len(worker.parts.in_flight) == 0)  # what it told was sent before that
    assert command(url, "KEYS", "*:live:*") == []


async def test_the_stream_is_bounded_and_mortal(app: StreamQ, url: str) -> None:
    @app.task
    async def order() -> None:
        for n in range(3000):
            get_context().emit(n)
            if n % 500 == 0:
                await asyncio.sleep(0.15)
        with pytest.raises(PayloadError, match="the emitted value"):
            get_context().emit("x" * 70_000)
        with pytest.raises(PayloadError):
            get_context().emit(object())

    async with serving(app):
        handle = await order.aenqueue()
        await handle.aresult(30)
    key = type_keys("shop", 0, "order").live(handle.id.rpartition(":")[2])
    length, life = command(url, "XLEN", key), command(url, "PTTL", key)
    assert isinstance(length, int)
    assert isinstance(life, int)
    assert 0 < length < 1.3 * live_calls.MOST
    assert 0 < life <= live_calls.LIFE_MS
    clean(app)


async def test_a_task_that_runs_on_quietly_keeps_what_it_told(
    app: StreamQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "RENEWED", 0.1)
    renewed = asyncio.Event()

    @app.task
    async def order() -> None:
        get_context().emit(1)
        await renewed.wait()

    async with serving(app):
        handle = await order.aenqueue()
        key = type_keys("shop", 0, "order").live(handle.id.rpartition(":")[2])
        await until(lambda: command(url, "EXISTS", key) == 1)
        command(url, "PEXPIRE", key, 60_000)
        await until(lambda: command(url, "PTTL", key) > 60_000)  # type: ignore[operator]
        assert command(url, "XLEN", key) == 1
        renewed.set()
        await handle.aresult(20)
        command(url, "PEXPIRE", key, 60_000)
        await asyncio.sleep(0.4)  # nothing is to happen: there is no condition to wait for
        assert command(url, "PTTL", key) <= 60_000  # type: ignore[operator]
    clean(app)


async def test_what_stands_in_the_stream_may_be_anything(app: StreamQ, url: str) -> None:
    @app.task
    async def order() -> None: ...

    async with serving(app):
        handle = await order.aenqueue()
        await handle.aresult(20)
        key = type_keys("shop", 0, "order").live(handle.id.rpartition(":")[2])
        for fields in [
            ("k", "value", "d", "{"),
            ("x", "\xff"),
            ("k", "progress", "d", "[]"),
            ("k", "value", "d", "7"),
        ]:
            command(url, "XADD", key, "*", *fields)
        assert [event.value for event in await watched(app, handle.id)] == [7, "completed"]


def test_plain_code_watches_too(app: StreamQ) -> None:
    @app.task
    async def order() -> None:
        get_context().progress(1, 4)
        get_context().emit("x")

    async def run() -> list[TaskEvent]:
        async with serving(app):
            handle = await order.aenqueue()
            return await asyncio.to_thread(lambda: list(handle.events()))

    events = asyncio.run(run())
    assert [event.kind for event in events] == ["progress", "value", "end"]


async def test_a_command_follows_it_and_the_dashboard_shows_it(
    app: StreamQ, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    go = asyncio.Event()

    @app.task
    async def order(name: str) -> None:
        get_context().progress(1, 4, f"<b>{name}")
        await go.wait()
        get_context().emit({"n": 1})

    async with serving(app):
        handle = await order.aenqueue("Ada")
        await until(lambda: app.inspector.task(handle.id).progress is not None)
        shown = await asyncio.to_thread(main, ["task", "show", handle.id, "--url", url])
        assert (shown, "1 of 4 (25%) <b>Ada" in capsys.readouterr().out) == (0, True)
        pages = [await page(app, handle.id, redact) for redact in ((), ("name",))]
        assert '<progress aria-label="Progress" max="4.0" value="1.0">' in pages[0]
        assert "&lt;b&gt;Ada" in pages[0]
        assert "Ada" not in pages[1]
        go.set()
        assert await asyncio.to_thread(main, ["task", "show", handle.id, "--follow", "--url", url]) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[-3:] == [
            "attempt 1  progress  [#####...............] 1 of 4 (25%) <b>Ada", "attempt 1  value  {'n': 1}",
            "attempt 1  end  completed",
        ]  # fmt: skip


async def page(app: StreamQ, task_id: str, redact: tuple[str, ...]) -> str:
    transport = httpx.ASGITransport(dashboard(app, auth=lambda _: Principal("ada", "viewer"), redact=redact))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return (await client.get(f"/tasks/{task_id}")).text


# -- log records ---------------------------------------------------------------------------------------------


async def test_log_records_of_a_type_are_shown_from_its_level_on(app: StreamQ, url: str) -> None:
    logger = logging.getLogger("shop.orders")
    logger.setLevel("DEBUG")

    @app.task(logs="info")
    def order() -> None:
        logger.debug("hidden")
        logger.info("order %d\x1b[2J taken", 17)
        logging.getLogger("streamq.own").error("not of the handler")
        logger.warning("x" * 10_000)

    @app.task
    async def quiet() -> None:
        logger.error("nobody watches")

    async with serving(app):
        handle = await order.aenqueue()
        silent = await quiet.aenqueue()
        found = await watched(app, handle.id)
        shown = await page(app, handle.id, ())
        assert "<small>info · shop.orders</small> order 17" in shown
        assert [event.kind for event in await watched(app, silent.id)] == ["end"]
        await (await order.aenqueue()).aresult(20)
    assert [(event.kind, event.level, event.logger) for event in found[:-1]] == [
        ("log", "info", "shop.orders"), ("log", "warning", "shop.orders"),
    ]  # fmt: skip
    assert found[0].text.startswith("order 17")
    assert len(found[1].text) == live.LONGEST
    assert command(url, "EXISTS", type_keys(app.name, 0, "quiet").live(silent.id.rpartition(":")[2])) == 0
    clean(app)


async def test_very_many_log_records_leave_the_first_out_and_say_how_many(app: StreamQ) -> None:
    # On the event loop: in a thread, a busy machine may send as fast as the handler logs.
    @app.task(logs="debug")
    async def order() -> None:
        for n in range(1000):
            logging.getLogger("shop").error("%d", n)
        get_context().emit("kept")

    async with serving(app):
        found = await watched(app, (await order.aenqueue()).id)
    logs = [event for event in found if event.kind == "log"]
    assert values(found)[0] == "kept"
    assert logs[-1].text == "999"
    assert len(logs) < 1000
    assert sum("left out" in event.text for event in logs) >= 1


async def test_log_records_of_a_child_process(url: str) -> None:
    app = handlers.at(url)
    async with serving(app, WorkerOptions(types=("logs_in_child",), concurrency=1, process_slots=1)):
        handle = await handlers.logs_in_child.aenqueue("seen")
        found = await watched(app, handle.id)
    assert [(event.level, event.text) for event in found if event.kind == "log"] == [("warning", "seen")]


def test_a_wrong_level_is_refused_in_the_callers_line(app: StreamQ) -> None:
    with pytest.raises(InvalidOption, match="logs='loud': must be None, 'debug', 'info', 'warning'"):
        app.task(logs="loud")  # type: ignore[call-overload]
