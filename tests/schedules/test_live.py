"""Recurring tasks against real servers, with daemons and workers: the scenarios that they must hold."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from streamq import (
    Cron,
    Daemon,
    DaemonOptions,
    Every,
    InvalidOption,
    QueueFull,
    Schedule,
    StreamQ,
    UnknownSchedule,
    UnknownTaskType,
    UsageError,
    WorkerOptions,
    get_context,
)
from streamq.calls import schedule as schedule_calls
from streamq.calls.call import Call
from streamq.calls.schedule import DueRow
from streamq.daemon import schedule_step, scheduler
from streamq.daemon.schedule_step import Taken
from streamq.flow import Ask, drive
from streamq.keys import shard_keys, type_keys
from streamq.schedules import definition, registration
from tests.conftest import command
from tests.running import OPTIONS, QUICK, begun, clean, serving, tending, until, wait_until, working
from tests.schedules import handlers
from tests.schedules.stage import HOUR, Stage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stage(app: StreamQ) -> Stage:
    return Stage(app)


@contextlib.contextmanager
def daemons(url: str, number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Daemons in processes of their own, which may be killed."""
    args = [sys.executable, "-m", "streamq", "daemon", "--url", url]
    started = [subprocess.Popen(args, cwd=ROOT, stderr=subprocess.DEVNULL) for _ in range(number)]
    try:
        yield started
    finally:
        for one in started:
            one.kill()
            one.wait()


def alive(app: StreamQ) -> int:
    return app.inspector.daemons_alive()


# -- the scenarios
# ---------------------------------------------------------------------------------------------


def test_three_daemons_of_which_two_are_killed_make_each_run_once(app: StreamQ, stage: Stage) -> None:
    @app.task
    def report(n: int) -> None: ...

    names = [f"s{n}" for n in range(200)]
    for n, name in enumerate(names):
        app.schedules.put(name, Every("1d"), report.bind(n))
    with daemons(str(app.address), 3) as started:
        wait_until(lambda: alive(app) == 3)
        due = stage.now() + 1500
        for name in names:
            stage.moved(name, due)
        command(str(app.address), "PUBLISH", stage.shard("s0").wake, "@schedules")
        wait_until(lambda: len(stage.runs("report")) > 20)
        for one in started[:2]:
            one.send_signal(signal.SIGKILL)
        wait_until(lambda: len(stage.runs("report")) >= 200)
        wait_until(lambda: stage.command("ZCOUNT", stage.shard("s0").schedules_due, 0, due) == 0)
    assert stage.runs("report") == sorted(f"{name}@{due}" for name in names)
    assert app.inspector.type_stats("report").counters["accepted"] == 200
    clean(app)


@pytest.mark.parametrize(
    ("misfire", "made", "skipped"), [("last", [6], 5), ("all", [1, 2, 3, 4, 5, 6], 0), ("skip", [], 6)]
)
async def test_six_hours_without_a_daemon(
    app: StreamQ, stage: Stage, misfire: Any, made: list[int], skipped: int
) -> None:
    @app.task
    def report() -> None: ...

    app.schedules.put("nightly", Every("1h"), report.bind(), misfire=misfire, overlap="allow")
    first = stage.now() - 5 * HOUR - HOUR // 2
    stage.moved("nightly", first)
    async with tending(app):
        await until(lambda: (stage.state("nightly").next or 0) > stage.now())
    assert stage.runs("report") == [f"nightly@{first + (n - 1) * HOUR}" for n in made]
    info = app.schedules.get("nightly")
    assert (info.runs, (info.skipped or {}).get("misfire", 0)) == (len(made), skipped)
    assert info.next_ms == first + 6 * HOUR
    clean(app)


MADRID = "Europe/Madrid"


@pytest.mark.parametrize(
    ("expression", "start", "made"),
    [
        # Forward on 29 March 2026: 02:00 is 03:00. Back on 25 October 2026: 03:00 is 02:00.
        ("30 2 * * *", "2026-03-28T00:00Z", ["28T01:30", "29T01:00", "30T00:30"]),
        ("30 2 * * *", "2026-10-24T00:00Z", ["24T00:30", "25T00:30", "26T01:30"]),
        ("30 * * * *", "2026-03-29T00:00Z", ["29T00:30", "29T01:30", "29T02:30"]),
        ("30 * * * *", "2026-10-25T00:00Z", ["25T00:30", "25T01:30", "25T02:30"]),
    ],
)
async def test_a_daemon_makes_the_runs_of_a_day_on_which_the_clocks_change(
    app: StreamQ, stage: Stage, expression: str, start: str, made: list[str]
) -> None:
    """The daemon was away since then, and makes up for all of it: its steps are those of the day itself."""

    @app.task
    def report() -> None: ...

    first, last = (datetime.fromisoformat(f"{start[:8]}{made[n]}Z") for n in (0, -1))
    app.schedules.put(
        "nightly", Cron(expression, tz=MADRID), report.bind(), misfire="all", overlap="allow",
        start=datetime.fromisoformat(start), end=last + timedelta(minutes=1),
    )  # fmt: skip
    stage.moved("nightly", round(first.timestamp() * 1000))
    async with tending(app), tending(app):
        await until(lambda: stage.state("nightly").next is None)
    runs = [int(one.partition("@")[2]) / 1000 for one in stage.runs("report")]
    assert [f"{datetime.fromtimestamp(one, UTC):%dT%H:%M}" for one in runs] == made
    assert (stage.state("nightly").runs, stage.state("nightly").skipped) == (len(made), {})
    clean(app)


async def test_old_and_new_workers_that_restart_in_turns_leave_the_new_definition(url: str) -> None:
    def release(when: Cron | Every) -> StreamQ:
        app = StreamQ("shop", url)

        @app.task(schedule=when, name="report")
        def report() -> None: ...

        return app

    old, new = release(Cron("0 3 * * *")), release(Cron("0 4 * * *"))
    for app, want in ((old, "0 3 * * *"), (new, "0 4 * * *"), (old, "0 4 * * *"), (new, "0 4 * * *")):
        async with working(app):
            pass
        assert app.schedules.get("report").when == want
    assert await old.aschedules.sync() == 0


async def test_a_run_that_is_being_retried_is_not_overtaken(app: StreamQ, stage: Stage) -> None:
    @app.task(max_attempts=5)
    def report() -> None:
        raise ValueError("again")

    app.schedules.put("nightly", Every("1d"), report.bind())
    async with serving(app):
        stage.moved("nightly", stage.now())
        await until(lambda: app.inspector.type_stats("report").counters["retried"] >= 1)
        stage.moved("nightly", stage.now())
        await until(lambda: stage.state("nightly").skipped.get("overlap") == 1)
        assert stage.state("nightly").runs == 1
        assert app.schedules.get("nightly").last_state in ("scheduled", "ready", "running")


def test_a_backfill_that_was_killed_half_way_adds_what_is_missing(app: StreamQ, stage: Stage) -> None:
    @app.task
    def report(n: int) -> None: ...

    app.schedules.put("nightly", Cron("0 3 * * *", tz="Europe/Madrid"), report.bind(7))
    end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert app.schedules.backfill("nightly", end - timedelta(days=6), end - timedelta(days=3)) == 3
    assert app.schedules.backfill("nightly", end - timedelta(days=10), end) == 7
    assert app.schedules.backfill("nightly", end - timedelta(days=10), end) == 0
    assert len(set(stage.runs("report"))) == len(stage.runs("report")) == 10


def test_a_backfill_until_now_takes_a_clock_that_runs_ahead_of_the_servers(
    app: StreamQ, stage: Stage
) -> None:
    @app.task
    def report(n: int) -> None: ...

    app.schedules.put("often", Every("1s"), report.bind(7))
    ahead = datetime.now(UTC) + timedelta(seconds=30)
    made = app.schedules.backfill("often", ahead - timedelta(seconds=60), ahead)
    assert 29 <= made <= 31  # of its sixty times, those that are over on the server's clock


# -- overlaps
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("overlap", "runs", "skipped"), [("skip", 1, 2), ("allow", 3, 0)])
async def test_a_run_beside_one_that_has_not_ended(
    app: StreamQ, stage: Stage, overlap: Any, runs: int, skipped: int
) -> None:
    @app.task
    def report() -> None: ...

    app.schedules.put("nightly", Every("1d"), report.bind(), overlap=overlap)
    async with tending(app):
        for _ in range(3):
            due = stage.now()
            stage.moved("nightly", due)
            await until(lambda due=due: (stage.state("nightly").next or 0) > due)  # type: ignore[misc]
    found = stage.state("nightly")
    assert (found.runs, found.skipped.get("overlap", 0)) == (runs, skipped)
    clean(app)


async def test_one_run_waits_for_the_end_of_the_one_before(app: StreamQ, stage: Stage) -> None:
    running, most, ended = 0, 0, 0
    go = asyncio.Event()

    @app.task
    async def report() -> None:
        nonlocal running, most, ended
        running += 1
        most = max(most, running)
        await go.wait()
        running -= 1
        ended += 1

    app.schedules.put("nightly", Every("1d"), report.bind(), overlap="queue_one")
    async with serving(app):
        for _ in range(4):
            due = stage.now()
            stage.moved("nightly", due)
            await until(lambda due=due: (stage.state("nightly").next or 0) > due)  # type: ignore[misc]
        await until(lambda: running == 1)
        found = stage.state("nightly")
        assert (found.runs, found.waiting is not None, found.skipped) == (1, True, {"overlap": 2})
        go.set()
        await until(lambda: ended == 2)
        await until(lambda: stage.state("nightly").waiting is None)
    assert most == 1
    assert stage.state("nightly").runs == 2
    assert stage.command("ZCARD", stage.shard("nightly").schedules_due) == 1
    clean(app)


async def test_the_one_before_is_cancelled(app: StreamQ, stage: Stage) -> None:
    cancelled = 0

    @app.task
    async def report() -> None:
        nonlocal cancelled
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled += 1
            raise

    app.schedules.put("nightly", Every("1d"), report.bind(), overlap="cancel")
    async with serving(app):
        stage.moved("nightly", stage.now())
        await until(lambda: app.inspector.type_stats("report").running == 1)
        stage.moved("nightly", stage.now())
        await until(lambda: cancelled == 1)
        await until(lambda: stage.state("nightly").runs == 2)
        await app.aadmin.cancel(app.schedules.get("nightly").last_task)
        await until(lambda: cancelled == 2)


def replacing(app: StreamQ, stage: Stage, **options: Any) -> DueRow:
    """A schedule whose first run is made and whose second is due, as a daemon saw it."""

    @app.task(**options)
    def report() -> None: ...

    app.schedules.put("nightly", Every("1d"), report.bind(), overlap="cancel")
    app.schedules.run_now("nightly")
    stage.moved("nightly", stage.now())
    [row] = stage.run(schedule_calls.due(stage.shard("nightly"), 0, 10)).rows
    return row


def step(app: StreamQ, stage: Stage, row: DueRow) -> Taken | None:
    flow = schedule_step.take(stage.shard("nightly"), row, stage.now())
    return drive(app.schedules.transport, flow)


def test_a_run_is_not_cancelled_where_the_schedule_was_paused_since_a_daemon_saw_it(
    app: StreamQ, stage: Stage
) -> None:
    row = replacing(app, stage)
    app.schedules.pause("nightly")
    assert step(app, stage, row) is None
    assert app.schedules.get("nightly").last_state == "ready"


def test_a_run_is_not_cancelled_where_the_next_one_is_refused(app: StreamQ, stage: Stage) -> None:
    taken = step(app, stage, replacing(app, stage, max_backlog=1))
    assert taken is not None
    assert taken.ticked[:2] == ("skipped", "backlog")
    assert app.schedules.get("nightly").last_state == "ready"


def test_a_run_is_asked_to_end_in_the_step_that_makes_the_next(app: StreamQ, stage: Stage) -> None:
    row = replacing(app, stage)
    first = stage.state("nightly").run
    steps = schedule_step.take(stage.shard("nightly"), row, stage.now())
    asked = next(steps)
    assert isinstance(asked, Ask)
    stage.run(asked.call)  # and here the daemon dies
    assert stage.state("nightly").runs == 2
    cancels = type_keys(app.name, stage.shard("nightly").shard, "report").cancels
    assert stage.command("HKEYS", cancels) == [first.encode()]


# -- what a run knows
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["auto", "process"])
async def test_a_run_knows_the_time_that_it_is_for(app: StreamQ, stage: Stage, executor: Any) -> None:
    told = app.task(name="told", executor=executor)(handlers.told.handler.function)
    app.schedules.put("nightly", Every("1d"), told.bind())
    async with serving(app):
        due = stage.now() - 5000
        stage.moved("nightly", due)
        await until(lambda: bool(stage.state("nightly").run))
        run = app.handle(app.schedules.get("nightly").last_task)
        assert await run.aresult(20) == due
        assert await (await told.aenqueue()).aresult(20) is None


async def test_a_retry_and_a_requeue_keep_the_time(app: StreamQ, stage: Stage) -> None:
    seen: list[datetime | None] = []

    @app.task(max_attempts=2, backoff=lambda _: 0.01)
    async def report() -> None:
        seen.append(get_context().scheduled_for)
        if len(seen) < 3:
            raise ValueError("again")

    app.schedules.put("nightly", Every("1d"), report.bind())
    async with serving(app):
        due = stage.now()
        stage.moved("nightly", due)
        await until(lambda: app.inspector.type_stats("report").dead == 1)
        assert app.schedules.get("nightly").last_state == "dead"
        await app.aadmin.requeue([app.schedules.get("nightly").last_task])
        await until(lambda: len(seen) == 3)
    assert seen == [datetime.fromtimestamp(due / 1000, UTC)] * 3
    clean(app)


async def test_the_options_of_the_call_go_with_each_run(app: StreamQ, stage: Stage) -> None:
    @app.task
    def report(n: int) -> None: ...

    call = report.options(priority="high", expires="1h", timeout=5, retention="1m").bind(n=3)
    app.schedules.put("nightly", Every("1d"), call)
    stage.moved("nightly", stage.now())
    async with tending(app):
        await until(lambda: bool(stage.state("nightly").run))
    info = app.inspector.task(app.schedules.get("nightly").last_task)
    assert info.id.split(":")[2][0] == "h"
    assert info.payload == b'{"n":3}'
    assert info.fields["m"] == b'{"timeout":5.0,"retention":60.0}'
    assert abs(int(info.fields["x"]) - stage.now() - HOUR) < 60_000
    assert app.inspector.type_stats("report").counters["accepted"] == 1
    clean(app)


# -- operations
# ------------------------------------------------------------------------------------------------


async def test_a_pause_makes_nothing_and_a_resume_makes_up_for_nothing(app: StreamQ, stage: Stage) -> None:
    @app.task
    def report() -> None: ...

    app.schedules.put("nightly", Every("1d"), report.bind())
    assert app.schedules.acting_for("ada").pause("nightly", "too loud")
    assert not app.schedules.pause("nightly")
    info = app.schedules.get("nightly")
    assert (info.standing, info.paused_by, info.paused_reason, info.next_ms) == (
        "paused",
        "ada",
        "too loud",
        None,
    )
    assert stage.command("ZCARD", stage.shard("nightly").schedules_due) == 0
    assert app.schedules.resume("nightly")
    assert not app.schedules.resume("nightly")
    assert app.schedules.get("nightly").standing == "active"
    [logged] = app.inspector.actions()
    assert (logged.by, logged.verb, logged.what, logged.done) == ("ada", "pause schedule", "nightly", 1)


async def test_run_now_and_times(app: StreamQ, stage: Stage) -> None:
    done: list[int] = []

    @app.task
    def report() -> None:
        done.append(1)

    app.schedules.put("thrice", Every("1d"), report.bind(), times=2, overlap="allow")
    task = await app.aschedules.acting_for("ada").run_now("thrice")
    async with serving(app):
        await app.handle(task).aresult(20)
        for _ in range(2):
            stage.moved("thrice", stage.now())
            before = stage.state("thrice").runs
            await until(lambda before=before: stage.state("thrice").runs > before)  # type: ignore[misc]
    info = app.schedules.get("thrice")
    assert (info.runs, info.left, info.standing, info.upcoming) == (3, 0, "ended", ())
    assert app.inspector.actions()[0].verb == "run schedule now"
    clean(app)


def test_the_view_tells_the_next_five_runs(app: StreamQ) -> None:
    @app.task
    def report() -> None: ...

    info = app.schedules.put("nightly", Cron("0 3 * * *", tz="Europe/Madrid"), report.bind())
    assert len(info.upcoming) == 5
    assert info.upcoming[0] == info.next_ms
    assert (info.when, info.tz, info.type, info.last_task, info.last_state) == (
        "0 3 * * *", "Europe/Madrid", "report", "", None,
    )  # fmt: skip
    assert [one.name for one in app.schedules.all()] == ["nightly"]
    assert app.schedules.remove("nightly")
    assert not app.schedules.remove("nightly")
    assert app.schedules.all() == []
    keys = shard_keys(app.name, 0)
    assert command(str(app.address), "EXISTS", keys.schedules, keys.schedules_due) == 0


def test_what_is_refused(app: StreamQ) -> None:
    @app.task(max_backlog=1)
    def report(n: int = 0) -> None: ...

    put, other = app.schedules.put, StreamQ("other", str(app.address)).task(name="x")(lambda: None)
    with pytest.raises(InvalidOption, match="'10m' is no schedule: write Cron"):
        put("nightly", "10m", report.bind())  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="'a b' is not a valid name for a schedule"):
        put("a b", Every("10m"), report.bind())
    with pytest.raises(UnknownTaskType, match="app 'shop' has no task type 'ghost', so nobody would run it"):
        put("nightly", Every("10m"), app.bound("ghost"))
    with pytest.raises(InvalidOption, match="takes no delay, at, shard_key or idempotency_key"):
        put("nightly", Every("10m"), report.options(delay="1m").bind())
    with pytest.raises(InvalidOption, match=r"write task.bind\(...\)"):
        put("nightly", Every("10m"), report)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="belongs to app 'other', not to 'shop'"):
        put("nightly", Every("10m"), other.bind())
    for act in (app.schedules.get, app.schedules.pause, app.schedules.resume, app.schedules.run_now):
        with pytest.raises(UnknownSchedule, match="app 'shop' has no schedule 'nightly'; it has: "):
            act("nightly")
    put("nightly", Every("10m"), report.bind())
    now = datetime.now(UTC)
    with pytest.raises(InvalidOption, match="lies in the future"):
        app.schedules.backfill("nightly", now, now + timedelta(hours=1))
    with pytest.raises(InvalidOption, match="must be later than start"):
        app.schedules.backfill("nightly", now, now)
    with pytest.raises(UsageError, match="more than 100,000 runs"):
        app.schedules.backfill("nightly", now - timedelta(days=3650), now)
    app.schedules.run_now("nightly")
    with pytest.raises(QueueFull, match="the backlog limit of task type 'report' was reached"):
        app.schedules.run_now("nightly")
    with pytest.raises(QueueFull, match="the backlog limit"):
        app.schedules.backfill("nightly", now - timedelta(days=1), now)


async def test_a_limit_of_the_type_skips_a_run_and_says_so(app: StreamQ, stage: Stage) -> None:
    @app.task(rate_limit="1/1h")
    def report() -> None: ...

    report.enqueue()
    app.schedules.put("nightly", Every("1d"), report.bind())
    stage.moved("nightly", stage.now())
    async with tending(app) as daemon:
        with app.inspector.tail() as events:
            await until(lambda: stage.state("nightly").skipped == {"rate_limit": 1})
            told = await asyncio.to_thread(events.next, 2.0)
        counted = (await daemon.metrics()).counters
    assert counted["streamq_schedule_skipped_total", "shop", "report", "rate_limit"] == 1
    assert all(one.event == "run_skipped" and "nightly@" in one.id for one in told)


# -- what code declares
# ----------------------------------------------------------------------------------------


async def test_what_code_declares_is_registered_and_runs(app: StreamQ) -> None:
    runs: Counter[int] = Counter()

    @app.task(schedule=Schedule(Every("1s"), overlap="allow"))
    async def beat() -> None:
        found = get_context().scheduled_for
        assert found is not None
        runs[round(found.timestamp() * 1000)] += 1

    async with serving(app, WorkerOptions(concurrency=10, block=0.5, heartbeat=0.2)):
        await until(lambda: len(runs) >= 3)
        assert app.inspector.workers()[0].details["schedules"] == ["beat"]
    assert set(runs.values()) == {1}
    first, *_ = sorted(runs)
    assert {(at - first) % 1000 for at in runs} == {0}
    assert app.schedules.get("beat").origin == "code"
    clean(app)


async def test_what_is_gone_from_the_code_is_an_orphan_and_goes_after_its_time(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "KEEP_INTERVAL", 0.1)
    old, new = StreamQ("shop", url), StreamQ("shop", url)

    @old.task(schedule=Every("1h"))
    def report() -> None: ...

    @new.task(name="report")
    def again() -> None: ...

    options = DaemonOptions(discover_interval=0.1)
    async with tending(new, options):
        async with working(old):
            await until(lambda: old.schedules.get("report").standing == "active")
        # While nobody lives who could tell, it is no orphan.
        assert old.schedules.get("report").standing == "active"
        async with working(new, OPTIONS):
            await until(lambda: kept(new, "orphan"))
            async with working(old):
                await until(lambda: kept(new, "active"))
            await until(lambda: kept(new, "orphan"))
            monkeypatch.setattr(registration, "ORPHANED_MS", 0)
            await until(lambda: old.schedules.all() == [])


def kept(app: StreamQ, standing: str) -> bool:
    """Whether a schedule stands so; rung awake, as its keeper comes by with the rounds."""
    command(str(app.address), "PUBLISH", shard_keys(app.name, 0).wake, "@schedules")
    return app.schedules.get("report").standing == standing


async def test_a_due_time_that_was_lost_is_written_anew(
    app: StreamQ, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    def report() -> None: ...

    app.schedules.put("nightly", Every("1d"), report.bind())
    stage.command("DEL", stage.shard("nightly").schedules_due)
    async with tending(app):
        await until(lambda: stage.command("ZCARD", stage.shard("nightly").schedules_due) == 1)


async def test_a_shard_that_is_given_up_gives_its_schedules_to_another(url: str) -> None:
    many, few = StreamQ("shop", url, shards=4), StreamQ("shop", url, shards=1)
    for app in (many, few):
        app.task(name="report")(lambda: None)
    await many.handle((await many.asend("report")).id).acancel()
    for n in range(12):
        await many.aschedules.put(f"s{n}", Every("1d"), many.bound("report"))
    assert len({one.shard for one in await many.aschedules.all()}) > 2
    before = {one.name: one.next_ms for one in await many.aschedules.all()}
    options = DaemonOptions(tidy_interval=0.1, discover_interval=0.1, gone_retention=0)
    async with working(few), tending(few, options):
        await until(lambda: {one.shard for one in few.schedules.all()} == {0})
        await until(lambda: few.inspector.shards() == 1)
    assert {one.name: one.next_ms for one in await few.aschedules.all()} == before


# -- what stands in Redis is input too
# -------------------------------------------------------------------------


async def test_one_damaged_row_costs_that_row(app: StreamQ, stage: Stage) -> None:
    @app.task
    def report() -> None: ...

    bad = {
        "no-json": ("x", "x"), "no-state": ('{"every_ms":1000}', ""), "no-type": ('{"every_ms":1000}', None),
        "bad-cron": ('{"cron":"61 * * * *","tz":"UTC","type":"report","letter":"n","fields":[]}', None),
    }  # fmt: skip
    keys = stage.shard("nightly")
    for name, (raw, state) in bad.items():
        app.schedules.put(name, Every("1d"), report.bind())
        stage.moved(name, 1000)
        stage.command("HSET", keys.schedules, name, raw)
        if state is not None:
            stage.command("HSET", keys.schedules, f"{name}:state", state)
    stage.command("ZADD", keys.schedules_due, "-inf", "ghost", 5, "a:b", "-5", b"\xff\xfe", 1, "no payload")
    app.schedules.put("no-payload", Every("1d"), report.bind())
    stage.moved("no-payload", stage.now())
    stage.command("HDEL", keys.schedules, "no-payload:payload")
    app.schedules.put("nightly", Every("1d"), report.bind())
    stage.moved("nightly", stage.now())
    async with tending(app) as daemon:
        await until(lambda: stage.state("nightly").runs == 1)
        await until(lambda: stage.command("ZSCORE", keys.schedules_due, "ghost") is None)
        faults = daemon.faults()
    assert any("bad-cron" in one for one in faults)
    standing = {one.name: one.standing for one in app.schedules.all()}
    assert standing == dict.fromkeys(bad, "damaged") | {"nightly": "active", "no-payload": "active"}
    for name in bad:
        assert app.schedules.put(name, Every("1d"), report.bind()).standing == "active"


async def test_a_daemon_without_the_extra_names_it_and_makes_the_others(
    app: StreamQ, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    def report() -> None: ...

    app.schedules.put("nightly", Cron("0 3 * * *"), report.bind())
    app.schedules.put("often", Every("1d"), report.bind())
    due = stage.now()
    for name in ("nightly", "often"):
        stage.moved(name, due)

    def missing() -> None:
        raise UsageError("Cron needs cronsim: pip install 'streamq[cron]'")

    with monkeypatch.context() as without:
        without.setattr("streamq.options.schedule.cron_library", missing)
        without.setattr("streamq.schedules.arithmetic.cron_library", missing)
        definition.read.cache_clear()
        async with tending(app) as daemon:
            await until(lambda: stage.state("often").runs == 1)
            faults = daemon.faults()
        assert any("schedule 'nightly': Cron needs cronsim: pip install" in one for one in faults)
        assert app.schedules.get("nightly").fault.startswith("Cron needs cronsim")
        with pytest.raises(UsageError, match="Cron needs cronsim"):
            app.schedules.pause("nightly")
    assert stage.state("nightly").next == due
    async with tending(app):  # one that has it
        await until(lambda: stage.state("nightly").runs == 1)


async def test_keys_of_another_kind_keep_no_other_app_from_being_served(url: str) -> None:
    broken, good = StreamQ("a-broken", url), StreamQ("shop", url)
    for app in (broken, good):
        app.task(name="report")(lambda: None)
        app.schedules.put("nightly", Every("1d"), app.bound("report"))
    keys = shard_keys("a-broken", 0)
    command(url, "DEL", keys.schedules_due)
    command(url, "SET", keys.schedules_due, "no sorted set")
    stage = Stage(good)
    async with tending(good) as daemon:
        stage.moved("nightly", stage.now())
        await until(lambda: stage.state("nightly").runs == 1)
        await until(lambda: any("a-broken" in one for one in daemon.faults()))
        with pytest.raises(Exception, match="WRONGTYPE"):
            broken.schedules.pause("nightly")


# -- what it costs
# ---------------------------------------------------------------------------------------------


async def test_an_idle_queue_with_a_thousand_schedules_asks_next_to_nothing(app: StreamQ) -> None:
    @app.task
    def report() -> None: ...

    for n in range(1000):
        app.schedules.put(f"s{n}", Cron("0 3 1 1 *"), report.bind())
    daemon = Daemon(app.address, DaemonOptions())
    task = await begun(daemon)
    await asyncio.sleep(3)  # its start is over
    asked, real = Counter[str](), daemon._transport.run

    async def run(call: Call[Any], **how: Any) -> Any:
        asked[call.script.name if call.script is not None else str(call.args[0])] += 1
        return await real(call, **how)

    daemon._transport.run = run  # type: ignore[method-assign]
    await asyncio.sleep(10)
    daemon.stop()
    print(f"{asked.total() / 10:.1f} calls a second: {dict(asked)}")
    assert asked.total() <= 12
    assert not {"tick", "write_schedule"} & asked.keys()
    await task


async def test_two_hundred_that_are_due_in_one_second_are_made_in_it(app: StreamQ, stage: Stage) -> None:
    @app.task
    def report() -> None: ...

    for n in range(200):
        app.schedules.put(f"s{n}", Every("1d"), report.bind())
    async with tending(app, QUICK):
        due = stage.now() + 2000
        for n in range(200):
            stage.moved(f"s{n}", due)
        await until(lambda: len(stage.runs("report")) == 200)
    late = sorted(stage.state(f"s{n}").late for n in range(200))
    print(f"late by {late[100]} ms (median), {late[-1]} ms at most")
    assert late[-1] < 5000
    clean(app)
