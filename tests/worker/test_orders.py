"""What operators ask of workers, what workers measure, lists and the dead-letter desk."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import pytest

from streamq import DaemonOptions, StreamQ, Worker, WorkerOptions
from streamq.calls import operator as operator_calls
from streamq.control.dead_letters import DeadSelection
from streamq.control.event_tail import _events
from streamq.control.rollups import activity
from streamq.control.task_rows import TaskFilter
from streamq.errors import PayloadError, UsageError
from streamq.keys import shard_keys
from streamq.model.delivery import Delivery
from streamq.model.outcome import Completed
from streamq.worker.event_publisher import MAX_EVENTS, EventPublisher
from tests.conftest import command
from tests.running import OPTIONS, begun, clean, serving, until, working

SLOW_BEATS = WorkerOptions(concurrency=2, drain_timeout=5, block=60, heartbeat=60)
"""Nothing but a message makes such a worker look."""


async def test_a_paused_type_is_left_alone_at_once(app: StreamQ) -> None:
    ran: list[str] = []

    @app.task
    async def one(n: int) -> None:
        ran.append(f"one {n}")

    @app.task
    async def two(n: int) -> None:
        ran.append(f"two {n}")

    async with working(app, SLOW_BEATS) as worker:
        await (await one.aenqueue(0)).aresult(5)
        admin = app.admin.acting_for("ada")
        assert await asyncio.to_thread(admin.pause, "one", "the shop is closed")
        await until(lambda: worker.parts.shard_fetchers._fetchers[0].is_paused("one"))
        waiting = await one.aenqueue(1)
        await (await two.aenqueue(2)).aresult(5)
        assert ran == ["one 0", "two 2"]
        assert await waiting.astatus() == "ready"
        pause = app.inspector.paused()["one"]
        assert (pause.by, pause.reason) == ("ada", "the shop is closed")
        began = time.monotonic()
        assert await asyncio.to_thread(admin.resume, "one")
        await waiting.aresult(10)
        assert time.monotonic() - began < 10  # the next heartbeat is a minute away
        log = [(action.by, action.verb, action.what, action.done) for action in app.inspector.actions()]
        assert log == [("ada", "resume", "one", 1), ("ada", "pause", "one", 1)]
    clean(app)


async def test_what_was_not_begun_is_handed_back_and_what_runs_goes_on(app: StreamQ) -> None:
    release, begun_ = asyncio.Event(), 0

    @app.task
    async def slow(n: int) -> int:
        nonlocal begun_
        begun_ += 1
        await release.wait()
        return n

    handles = [await slow.aenqueue(n) for n in range(5)]
    async with working(app, SLOW_BEATS) as worker:
        await until(lambda: begun_ == 2)
        worker.parts.runner._prefetch.ahead = 3  # as if tasks had been short: some are fetched ahead
        worker.parts.control.freed()
        await until(lambda: len(worker.parts.in_flight) == 5)
        await asyncio.to_thread(app.admin.pause, "slow")
        await until(lambda: len(worker.parts.in_flight) == 2)
        stats = app.inspector.type_stats("slow")
        assert (stats.ready, stats.running) == (3, 2)
        release.set()
        await until(lambda: len(worker.parts.in_flight) == 0)
        assert begun_ == 2
        await asyncio.to_thread(app.admin.resume, "slow")
        assert sorted([await handle.aresult(5) for handle in handles]) == list(range(5))
    clean(app)


async def test_a_worker_starts_with_what_is_paused(app: StreamQ) -> None:
    @app.task
    async def idle() -> None: ...

    handle = await idle.aenqueue()
    app.admin.pause("idle")
    async with working(app) as worker:
        assert worker.parts.shard_fetchers._fetchers[0].is_paused("idle")
        assert await handle.astatus() == "ready"
        await asyncio.to_thread(app.admin.resume, "idle")
        await handle.aresult(5)


async def test_a_message_that_was_lost_is_made_up_for_by_the_heartbeat(app: StreamQ, url: str) -> None:
    @app.task
    async def idle() -> None: ...

    async with working(app, OPTIONS) as worker:
        command(url, "HSET", "streamq:{shop:0}:paused", "idle", "{}")
        await until(lambda: worker.parts.shard_fetchers._fetchers[0].is_paused("idle"))


async def test_pausing_a_type_that_does_not_exist_is_refused(app: StreamQ) -> None:
    with pytest.raises(UsageError, match="no task type 'emial'; it has: none"):
        app.admin.pause("emial")


async def test_one_worker_is_drained_by_name(app: StreamQ) -> None:
    release = asyncio.Event()

    @app.task
    async def slow() -> str:
        await release.wait()
        return "done"

    worker = Worker(app, SLOW_BEATS)
    running = await begun(worker)
    handle = await slow.aenqueue()
    await until(lambda: len(worker.parts.runner.running()) == 1)
    await until(lambda: len(app.inspector.workers()) == 1)
    assert not await asyncio.to_thread(app.admin.drain, "nobody")
    assert await asyncio.to_thread(app.admin.drain, worker.name)
    await until(worker._stop.requested.is_set)
    release.set()
    await asyncio.wait_for(running, 20)
    assert await handle.aresult(5) == "done"
    assert app.inspector.workers() == []


async def test_rollups_tell_rates_and_durations(app: StreamQ) -> None:
    @app.task
    async def quick() -> None:
        await asyncio.sleep(0.02)

    options = DaemonOptions(
        claim_interval=0.1, tidy_interval=0.2, discover_interval=0.05, sample_interval=0.05
    )
    async with serving(app, OPTIONS, options):
        await (await quick.aenqueue()).aresult(5)
        await until(lambda: command_count(app) >= 0)
        for _ in range(5):
            await (await quick.aenqueue()).aresult(5)
        await until(lambda: command_count(app) >= 5)
        await until(lambda: sum(sum(part.run.values()) for part in app.inspector.rollups("quick")) >= 6)
    found = activity(app.inspector.rollups("quick", "day"))
    assert found.success == 1.0
    assert (found.rate_out or 0) >= 5 / 86400
    assert found.run.p50 is not None
    assert 0.015 < found.run.p50 < 2
    assert found.wait.p50 is not None


def command_count(app: StreamQ) -> int:
    """How many completions the rollups know of; -1 before the first sample."""
    parts = app.inspector.rollups("quick")
    if not any("backlog" in part.counts for part in parts):
        return -1
    return sum(part.counts.get("completed", 0) for part in parts)


async def test_what_happens_is_told_while_somebody_listens(app: StreamQ) -> None:
    @app.task(max_attempts=1)
    async def ends(n: int) -> None:
        if n:
            raise ValueError

    async with working(app, OPTIONS) as worker:
        await (await ends.aenqueue(0)).aresult(5)
        assert not worker.parts.event_publisher.active
        with app.inspector.tail() as tail:
            await until(lambda: worker.parts.event_publisher.active)
            good, bad = await ends.aenqueue(0), await ends.aenqueue(1)
            heard: set[tuple[str, str]] = set()
            for _ in range(50):
                heard |= {(one.event, one.id) for one in await asyncio.to_thread(tail.next, 0.2)}
                if len(heard) == 4:
                    break
        wanted = {("started", good.id), ("completed", good.id), ("started", bad.id), ("dead", bad.id)}
        assert heard == wanted
        await asyncio.to_thread(
            app._client.transport.run, operator_calls.listen(shard_keys("shop", 0), 1, at_once=True)
        )
        await until(lambda: not worker.parts.event_publisher.active)


def test_a_busy_worker_leaves_out_what_is_too_much() -> None:
    event_publisher = EventPublisher("shop", "w")
    task = Delivery("email", 0, "n1-0", "n1-0", b"{}")
    for _ in range(MAX_EVENTS + 7):
        event_publisher.attempt_stored(task, Completed(), 0.1, 5)
    [call] = event_publisher.drain(0)
    events = list(_events(cast("bytes", call.args[2]).decode()))
    assert len(events) == MAX_EVENTS + 1
    assert (events[-1].event, events[-1].number) == ("skipped", 7)
    assert event_publisher.drain(0) == []
    assert list(_events("nonsense")) == []


# -- the dead-letter desk ------------------------------------------------------------------------------


async def test_dead_letters_are_grouped_by_fault(app: StreamQ) -> None:
    def first(n: int) -> None:
        raise ValueError(f"bad {n}")

    @app.task(max_attempts=1)
    async def fails(n: int) -> int:
        if n < 3:
            first(n)
        raise LookupError("none")

    async with working(app):
        handles = [await fails.aenqueue(n) for n in range(5)]
        await until(lambda: app.inspector.type_stats("fails").dead == 5)
    inspector, admin = app.inspector, app.admin
    found = inspector.dead_groups()
    assert found.complete
    assert [(group.error, group.count) for group in found.groups] == [("ValueError", 3), ("LookupError", 2)]
    value, lookup = found.groups
    assert "in first" in value.place
    assert "test_orders.py" in value.place
    assert "in fails" in lookup.place
    assert value.per_hour[-1] == 3
    of_group = inspector.tasks("dead", "fails", filter=TaskFilter(fingerprint=value.fingerprint)).rows
    assert {row.id for row in of_group} == {handle.id for handle in handles[:3]}
    assert inspector.count_dead(DeadSelection("fails", error="lookup")) == 2
    assert admin.requeue_selected(DeadSelection("fails", error="lookup")) == 2
    assert admin.purge_selected(DeadSelection("fails", fingerprint=value.fingerprint)) == 3
    assert [(a.verb, a.done, a.asked) for a in inspector.actions()] == [("purge", 3, 3), ("requeue", 2, 2)]
    clean(app)


async def test_a_payload_is_edited_and_the_task_requeued_as_a_new_one(app: StreamQ) -> None:
    @app.task(max_attempts=1)
    async def picky(n: int) -> int:
        if n < 0:
            raise ValueError("negative")
        return n

    async with working(app):
        old = await picky.aenqueue(-1)
        await until(lambda: app.inspector.task(old.id).state == "dead")
        with pytest.raises(PayloadError, match="not JSON"):
            app.admin.resubmit(old.id, b"{")
        with pytest.raises(PayloadError, match="JSON object"):
            app.admin.resubmit(old.id, b"[1]")
        new = await asyncio.to_thread(app.admin.resubmit, old.id, b'{"n":7}')
        assert new is not None
        assert await app.handle(new).aresult(5) == 7
        assert app.admin.resubmit(old.id, b'{"n":7}') is None
    clean(app)


# -- lists ---------------------------------------------------------------------------------------------


async def test_lists_are_paged_over_types_and_filtered(app: StreamQ) -> None:
    @app.task(max_attempts=1)
    async def ends(n: int) -> int:
        if n % 2:
            raise KeyError(f"odd {n}")
        return n

    @app.task
    async def waits(n: int) -> None: ...

    inspector = app.inspector
    for n in range(6):
        await ends.aenqueue(n)
    async with working(app, WorkerOptions(types=("ends",), block=0.2)):
        await until(lambda: inspector.type_stats("ends").counters.get("started") == 6)
    for n in range(5):
        await waits.aenqueue(n)
        await waits.options(delay=60 + n).aenqueue(n)
    first = inspector.tasks("ready", limit=3)
    second = inspector.tasks("ready", limit=3, cursor=first.cursor)
    assert [len(first.rows), len(second.rows), second.cursor] == [3, 2, ""]
    assert {row.payload for row in (*first.rows, *second.rows)} == {b'{"n":%d}' % n for n in range(5)}
    scheduled = inspector.tasks("scheduled").rows
    assert [row.payload for row in scheduled] == [b'{"n":%d}' % n for n in range(5)]
    assert len(inspector.tasks("scheduled", filter=TaskFilter(newer_than=62)).rows) < 5
    dead = inspector.tasks("dead", filter=TaskFilter(error="odd 3")).rows
    assert [row.last_error and row.last_error["message"] for row in dead] == ["'odd 3'"]
    assert [row.id for row in inspector.tasks("dead", filter=TaskFilter(id=dead[0].id)).rows] == [dead[0].id]
    page = inspector.tasks("completed", "ends", limit=2)
    rest = inspector.tasks("completed", "ends", limit=50, cursor=page.cursor)
    assert sorted(row.result or b"" for row in (*page.rows, *rest.rows)) == [b"0", b"2", b"4"]
    assert app.admin.run_now(scheduled[0].id)
    assert app.admin.cancel(scheduled[1].id) == "cancelled"
    assert [row.id for row in inspector.tasks("cancelled").rows] == [scheduled[1].id]


def test_what_is_no_list_is_refused(app: StreamQ) -> None:
    with pytest.raises(UsageError, match="no list of 'unknown'"):
        app.inspector.tasks("unknown")
    with pytest.raises(UsageError, match="use one returned by a previous page"):
        app.inspector.tasks("ready", cursor="../../etc")
    with pytest.raises(UsageError, match="must be from 1 to 200"):
        app.inspector.tasks("ready", limit=1000)


async def test_completed_tasks_are_found_page_by_page_to_the_end(app: StreamQ) -> None:
    @app.task
    async def quick(n: int) -> int:
        return n

    async with serving(app):
        later = await quick.options(delay=0.05).aenqueue(1)
        await later.aresult(5)
    found: list[str] = []
    cursor, pages = "", 0
    while pages < 100:
        page = app.inspector.tasks("completed", cursor=cursor)
        found += [row.id for row in page.rows]
        cursor, pages = page.cursor, pages + 1
        if not cursor:
            break
    assert found == [later.id]
    assert not cursor
