"""Apps of one name in several databases of a server: channels know no database, and anybody may publish."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from streamq import StreamQ
from streamq.control.event_tail import Event
from streamq.keys import shard_keys, type_keys
from streamq.model.task import TaskId
from tests.conftest import command
from tests.running import begun, serving, tending, until, working


class Twin:
    """The app of one database, whose one handler waits until it is told to end."""

    def __init__(self, url: str, database: int) -> None:
        self.app = StreamQ("shop", f"{url}?db={database}")
        self.started, self.end = asyncio.Event(), asyncio.Event()
        self.cancelled = False

        @self.app.task
        async def work() -> int:
            self.started.set()
            try:
                await self.end.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
            return database

    def send(self, at: datetime) -> str:
        return self.app.send("work", at=at).id


@pytest.mark.parametrize("databases", [(0, 1), (1, 0), (1, 2)])
async def test_cancel_in_one_database_leaves_the_task_of_another_alone(
    url: str, databases: tuple[int, int]
) -> None:
    here, there = (Twin(url, database) for database in databases)
    at = datetime.now(UTC) + timedelta(seconds=1)
    task = here.send(at)
    assert there.send(at) == task
    async with serving(here.app), serving(there.app):
        await asyncio.gather(here.started.wait(), there.started.wait())
        assert here.app.handle(task).cancel() == "requested"
        await until(lambda: here.app.handle(task).status() == "cancelled")
        there.end.set()
        assert await there.app.handle(task).aresult(10) == databases[1]
    assert (here.cancelled, there.cancelled) == (True, False)
    command(f"{url}?db={databases[0]}", "FLUSHALL")


async def test_what_anybody_publishes_changes_nothing(url: str) -> None:
    twin = Twin(url, 0)
    async with serving(twin.app):
        handle = twin.app.send("work")
        await twin.started.wait()
        waiting = asyncio.create_task(handle.aresult(20))
        task = TaskId.parse(handle.id)
        control = shard_keys("shop", 0).control
        for text in (
            f"cancel {handle.id}",
            "orders",
            "shards",
            f"lost {handle.id}",
            "cancel",
            "cancel x:0:n1-0",
            "\x00",
        ):
            command(url, "PUBLISH", control, text)
        for op in "cdxe":
            command(url, "PUBLISH", type_keys("shop", 0, "work").done(task.local), op)
        for text in ("work", "other", "{x}"):
            command(url, "PUBLISH", shard_keys("shop", 0).wake, text)
        command(url, "PUBLISH", twin.app.address.namespace.news, "look")
        after = twin.app.send("work", delay=0.05)
        await until(lambda: after.status() == "running")
        assert (handle.status(), twin.cancelled, waiting.done()) == ("running", False, False)
        twin.end.set()
        assert await waiting == 0


@pytest.mark.parametrize("database", [0, 1])
async def test_tail_hears_its_own_database_only(url: str, database: int) -> None:
    here, there = Twin(url, database), Twin(url, 2)
    here.end.set()
    there.end.set()
    async with working(here.app) as worker, working(there.app) as other:
        with here.app.inspector.tail() as events, there.app.inspector.tail():
            await until(lambda: worker.parts.event_publisher.active and other.parts.event_publisher.active)
            there.app.send("work")
            await until(there.started.is_set)
            mine = here.app.send("work").id
            seen: list[Event] = []
            while not any(one.event == "completed" and one.id == mine for one in seen):
                seen += await asyncio.to_thread(events.next, 5.0)
    assert {one.worker for one in seen} == {worker.name}


async def test_tail_leaves_out_what_an_older_worker_tells_in_another_database(url: str) -> None:
    """It does not say which its database is, but it is in no list of ours."""
    twin = Twin(url, 0)
    twin.end.set()
    told = '{"event": "started", "id": "a:0:n1-0", "attempt": 1, "at_ms": 5}'
    text = '{"worker": "%s", "left_out": 0, "events": [' + told + "]}"
    async with working(twin.app) as worker:
        with twin.app.inspector.tail() as events:
            command(url, "PUBLISH", shard_keys("shop", 0).events, text % "elsewhere")
            command(url, "PUBLISH", shard_keys("shop", 0).events, text % worker.name)
            assert events.next(5.0) == []
            assert [one.worker for one in events.next(5.0)] == [worker.name]


async def test_a_new_app_wakes_the_daemon_that_knows_it_not_yet(url: str) -> None:
    """Its looks at the list of apps are rare here: news of an app make it look."""
    from streamq import Daemon, DaemonOptions

    daemon = Daemon(StreamQ("shop", f"{url}?db=3").address, DaemonOptions(discover_interval=600))
    running = await begun(daemon)
    twin = Twin(url, 3)
    twin.end.set()
    async with working(twin.app):
        assert await twin.app.send("work", delay=0.2).aresult(10) == 3
    daemon.stop()
    await running


async def test_a_daemon_wakes_for_its_own_database(url: str) -> None:
    here, there = Twin(url, 1), Twin(url, 2)
    here.end.set()
    async with tending(here.app), working(here.app):
        there.app.send("work", delay=0.05)
        assert await here.app.send("work", delay=0.1).aresult(10) == 1
    assert there.app.inspector.counts("work", 0).scheduled == 1
