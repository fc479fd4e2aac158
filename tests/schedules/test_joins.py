"""Schedules of task types with lanes and unique keys, with daemons and workers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from streamq import Every, InvalidOption, Lane, Schedule, StreamQ, Unique, UniqueConflict, UsageError
from streamq.schedules import definition
from tests.running import clean, serving, tending, until
from tests.schedules.stage import Stage


@pytest.fixture
def stage(app: StreamQ) -> Stage:
    return Stage(app)


async def test_a_scheduled_type_with_a_limit_runs_one_at_a_time(app: StreamQ, stage: Stage) -> None:
    now, most, done = 0, 0, 0

    @app.task(running=1)
    async def report(n: int) -> None:
        nonlocal now, most, done
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        done += 1

    for n in range(8):
        app.schedules.put(f"s{n}", Every("1d"), report.bind(n))
    async with serving(app):
        for n in range(8):
            stage.moved(f"s{n}", stage.now())
        await until(lambda: done == 8)
    assert most == 1
    assert {app.schedules.get(f"s{n}").runs for n in range(8)} == {1}
    clean(app)


async def test_a_declared_schedule_of_a_type_with_everything(app: StreamQ, stage: Stage) -> None:
    gate = asyncio.Event()

    @app.task(
        lane=Lane("of", running=1), unique=Unique(by=("of",)), schedule=Schedule(Every("1d"), overlap="allow")
    )
    async def sync(of: str = "all") -> None:
        await gate.wait()

    async with serving(app):
        await until(lambda: bool(app.schedules.all()))
        stage.moved("sync", stage.now())
        await until(lambda: app.schedules.get("sync").runs == 1)
        first = app.schedules.get("sync").last_task
        [lock] = app.inspector.locks("sync")
        assert lock.holder == first
        stage.moved("sync", stage.now())
        await until(lambda: (app.schedules.get("sync").skipped or {}).get("unique") == 1)
        with pytest.raises(UniqueConflict, match="holds the unique key of this 'sync' run: nothing was made"):
            app.schedules.run_now("sync")
        gate.set()
        await until(lambda: app.handle(first).status() == "completed")
        second = app.schedules.run_now("sync")
        assert await app.handle(second).aresult(timeout=10) is None
    assert app.inspector.locks("sync") == []
    clean(app)


async def test_cancel_makes_the_run_when_the_one_before_has_ended(app: StreamQ, stage: Stage) -> None:
    seen: list[str] = []

    @app.task(unique=True)
    async def sync() -> None:
        seen.append("begun")
        try:
            await asyncio.sleep(30 if len(seen) == 1 else 0)
        finally:
            seen.append("ended")

    app.schedules.put("nightly", Every("1d"), sync.bind(), overlap="cancel")
    async with serving(app):
        stage.moved("nightly", stage.now())
        await until(lambda: seen == ["begun"])
        stage.moved("nightly", stage.now())
        await until(lambda: seen == ["begun", "ended"] * 2)
    info = app.schedules.get("nightly")
    assert (info.runs, info.skipped or {}) == (2, {})


def test_run_now_and_backfill_of_a_type_with_lanes_wait_for_their_lane(app: StreamQ) -> None:
    @app.task(lane=Lane("customer", running=1))
    async def report(customer: str) -> None: ...

    @app.task(unique=True)
    async def sync() -> None: ...

    app.schedules.put("weekly", Every("1h"), report.bind("acme"))
    report.enqueue("acme")
    assert app.handle(app.schedules.run_now("weekly")).status() == "parked"
    today = datetime.now(UTC)
    assert app.schedules.backfill("weekly", today - timedelta(hours=4), today) in (4, 5)
    [lane] = app.inspector.lanes("report")
    assert (lane.lane, lane.parked) == ("acme", app.inspector.type_stats("report").parked)
    app.schedules.put("nightly", Every("1h"), sync.bind())
    with pytest.raises(UsageError, match="its runs share one unique key"):
        app.schedules.backfill("nightly", today - timedelta(hours=4), today)
    app.schedules.put("nightly", Every("1h"), sync.options(unique=False).bind())
    assert app.schedules.backfill("nightly", today - timedelta(hours=4), today) in (4, 5)
    assert app.inspector.locks("sync") == []


def test_a_schedule_by_name_has_what_the_policy_asks_for(app: StreamQ, url: str) -> None:
    @app.task(lane=Lane("customer", running=1), unique=Unique(by=("customer",)))
    async def report(customer: str) -> None: ...

    report.enqueue("other")
    other = StreamQ("shop", url)
    other.schedules.put("weekly", Every("1h"), other.bound("report", {"customer": "acme"}))
    run = other.schedules.run_now("weekly")
    assert {lock.holder for lock in app.inspector.locks("report")} >= {run}
    assert [lane.lane for lane in app.inspector.lanes("report", lane="acme")] == ["acme"]


async def test_a_definition_of_an_older_release_gets_what_its_type_has_by_now(
    app: StreamQ, stage: Stage
) -> None:
    @app.task
    async def report(customer: str) -> None: ...

    app.schedules.put("weekly", Every("1d"), report.bind("acme"))
    app.schedules.put("now", Every("1d"), report.bind("acme"))
    later = StreamQ("shop", str(app.address))

    @later.task(
        name="report", lane=Lane("customer", running=1), unique=Unique(by=("customer",), on_conflict="after")
    )
    async def laned(customer: str) -> None: ...

    first = laned.enqueue("acme")
    async with tending(later):
        stage.moved("weekly", stage.now())
        await until(lambda: later.schedules.get("weekly").runs == 1)
    follows = later.schedules.get("weekly").last_task
    [lock] = later.inspector.locks("report")
    assert (lock.holder, lock.follows) == (first.id, follows)
    assert later.schedules.run_now("now") == follows
    raw = stage.command("HGET", stage.shard("weekly").schedules, "weekly")
    known = definition.read(raw)
    assert (orjson.loads(raw)["letter"], known.parts["lane"], known.home) == ("n*", "acme", "acme")


async def test_the_runs_of_a_schedule_are_in_the_shard_of_their_lane(url: str) -> None:
    app = StreamQ("shop", url, shards=4)

    @app.task(lane=Lane("customer", running=1), unique=Unique(by=("customer", "n")))
    async def report(customer: str, n: int) -> None: ...

    @app.task(running=1, name="whole")
    async def whole() -> None: ...

    for n in range(6):
        app.schedules.put(f"s{n}", Every("1h"), report.bind("acme", n))
        app.schedules.put(f"w{n}", Every("1h"), whole.bind())
    homes = {app.schedules.run_now(f"s{n}").split(":")[1] for n in range(6)}
    homes.add(report.enqueue("acme", 9).id.split(":")[1])
    assert (len(homes), app.inspector.type_stats("report").parked) == (1, 6)
    assert len({app.schedules.run_now(f"w{n}").split(":")[1] for n in range(6)}) == 1
    assert app.inspector.type_stats("whole").parked == 5


async def test_a_schedule_moves_to_the_home_of_its_lane(app: StreamQ, url: str) -> None:
    many = StreamQ("shop", url, shards=4)

    @many.task
    async def report(customer: str) -> None: ...

    many.schedules.put("weekly", Every("1d"), report.bind("acme"))
    before = many.schedules.get("weekly").shard
    again = StreamQ("shop", url, shards=4)

    @again.task(name="report", lane=Lane("customer", running=1))
    async def laned(customer: str) -> None: ...

    lane = next(name for name in map(str, range(50)) if _home(laned, name) != before)
    again.schedules.put("weekly", Every("1d"), laned.bind(lane))
    async with tending(again):
        await until(lambda: again.schedules.get("weekly").shard == _home(laned, lane))
    assert again.schedules.run_now("weekly").split(":")[1] == str(_home(laned, lane))


def _home(task: Any, lane: str) -> int:
    return int(task.enqueue(lane).id.split(":")[1])


def test_what_a_schedule_cannot_be_given(app: StreamQ, url: str) -> None:
    @app.task(unique=True)
    async def sync() -> None: ...

    for call in (sync.options(delay=5), sync.options(idempotency_key="k")):
        with pytest.raises(InvalidOption, match="takes no delay, at, shard_key or idempotency_key"):
            app.schedules.put("nightly", Every("1h"), call.bind())
    many = StreamQ("shop", url, shards=3)

    @many.task(lane=Lane("customer", running=1), name="report")
    async def report(customer: str) -> None: ...

    with pytest.raises(InvalidOption, match="may have different homes where an app has several shards"):
        many.schedules.put("weekly", Every("1h"), report.options(unique="x").bind("acme"))
