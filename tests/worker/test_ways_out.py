"""Every way out of `Worker.run()` finishes or hands back what is in hand, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from streamq import StreamQ, Worker, WorkerOptions
from streamq.telemetry import logs
from streamq.worker import shard_fetchers
from tests.running import OPTIONS, begun, clean, until

ONE_SLOT = WorkerOptions(concurrency=2, block=0.5, heartbeat=0.2, drain_timeout=5)


class _Work:
    """Two tasks that run for long, and two that wait for their slots."""

    def __init__(self, app: StreamQ, kind: str) -> None:
        self.app, self.began, self.release = app, 0, threading.Event()
        self.task: Any = app.task(name="long", max_lost=2)(
            self._on_loop if kind == "async" else self._in_thread
        )

    async def _on_loop(self) -> None:
        self.began += 1
        await asyncio.sleep(60)

    def _in_thread(self) -> None:
        self.began += 1
        self.release.wait(60)

    def enqueue(self) -> list[str]:
        return [handle.id for handle in self.app.enqueue_many([self.task.bind()] * 4)]

    def handed_back(self, ids: list[str]) -> None:
        """All are ready again at once, none counts as lost or failed."""
        self.release.set()
        assert [self.app.handle(one).status() for one in ids] == ["ready"] * 4
        assert all(not self.app.inspector.task(one).failures for one in ids)
        counters = self.app.inspector.type_stats("long").counters
        assert counters.get("reclaimed", 0) == counters.get("retried", 0) == counters.get("dead", 0) == 0
        assert self.app.inspector.workers() == []
        clean(self.app)


@pytest.fixture(params=["async", "thread"])
def work(app: StreamQ, request: pytest.FixtureRequest) -> Iterator[_Work]:
    found = _Work(app, request.param)
    yield found
    found.release.set()


def events(capfd: pytest.CaptureFixture[str]) -> set[str]:
    return {json.loads(line)["event"] for line in capfd.readouterr().err.splitlines() if line[:1] == "{"}


@pytest.fixture(autouse=True)
def json_log() -> Iterator[None]:
    logs.configure("info", "json")
    yield
    logs._SETTINGS.clear()


async def test_a_task_group_that_fails_hands_back(work: _Work, capfd: pytest.CaptureFixture[str]) -> None:
    """Each restart of a framework counted as a loss, and the fourth buried the task."""
    before = asyncio.all_tasks()
    ids = work.enqueue()

    async def program() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(Worker(work.app, ONE_SLOT).run())
            await until(lambda: work.began == 2)
            raise ValueError("the app has failed")

    with pytest.raises(ExceptionGroup):
        await program()
    assert asyncio.all_tasks() == before
    work.handed_back(ids)
    assert not events(capfd) & {"task.retried", "task.dead", "worker.failed", "worker.unsettled"}


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_worker_is_not_hurried_by_more_of_it(work: _Work, times: int) -> None:
    ids = work.enqueue()
    task = await begun(Worker(work.app, ONE_SLOT))
    await until(lambda: work.began == 2)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    work.handed_back(ids)


async def test_a_drain_that_is_cancelled_hands_back(work: _Work) -> None:
    ids = work.enqueue()
    worker = Worker(work.app, ONE_SLOT)
    task = await begun(worker)
    await until(lambda: work.began == 2)
    worker.stop()
    await until(lambda: work.app.inspector.type_stats("long").ready == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    work.handed_back(ids)


async def test_an_error_within_hands_back(work: _Work, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = work.enqueue()
    worker = Worker(work.app, ONE_SLOT)

    async def broken(*_: object) -> None:
        await until(lambda: work.began == 2)
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(worker, "_until_stopped", broken)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await worker.run()
    work.handed_back(ids)


async def test_an_error_at_the_start_leaves_nothing_behind(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease thread went on for ever."""
    before = asyncio.all_tasks()
    app.task(name="any")(lambda: None)

    async def broken(*_: object) -> None:
        raise RuntimeError("no shard")

    monkeypatch.setattr(shard_fetchers.ShardFetchers, "serve", broken)
    with pytest.raises(RuntimeError, match="no shard"):
        await Worker(app, OPTIONS).run()
    assert asyncio.all_tasks() == before
    assert not [one for one in threading.enumerate() if one.name == "streamq-leases"]


class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


async def _living(work: _Work, way: str) -> None:
    """A program with a worker, that ends in the one way or the other."""
    worker, me = Worker(work.app, ONE_SLOT), asyncio.current_task()
    assert me is not None
    task = asyncio.create_task(worker.run())
    await until(lambda: work.began == 2)
    if way == "stopped twice":
        worker.stop()
        worker.stop()
        await task
    elif way == "cancelled":
        me.cancel()
        await task


def _in_own_loop(coroutine: Any) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(coroutine)
    loop.close()


@pytest.mark.parametrize("way", ["returned", "cancelled", "stopped twice"])
def test_a_loop_that_ends_hands_back(work: _Work, way: str, capfd: pytest.CaptureFixture[str]) -> None:
    """asyncio cancels all tasks at once, ours among them: settler, fetchers, slots."""
    complaints = _Complaints()
    logging.getLogger("asyncio").addHandler(complaints)
    ids = work.enqueue()

    try:
        if way == "cancelled":
            with pytest.raises(asyncio.CancelledError):
                asyncio.run(_living(work, way))
        else:
            (asyncio.run if way == "returned" else _in_own_loop)(_living(work, way))
        gc.collect()
    finally:
        logging.getLogger("asyncio").removeHandler(complaints)
    work.handed_back(ids)
    assert not [said for said in complaints.said if "destroyed" in said or "never retrieved" in said]
    assert not events(capfd) & {"task.retried", "task.dead", "worker.failed", "worker.unsettled"}


CLOSES_ITS_LOOP = """
import asyncio, sys, threading, time
from streamq import StreamQ, Worker

app, began = StreamQ("shop", sys.argv[1]), threading.Event()

@app.task
async def waits():
    began.set()
    await asyncio.sleep(60)

waits.enqueue()
loop, worker = asyncio.new_event_loop(), Worker(app)
task = loop.create_task(worker.run())
loop.run_until_complete(loop.create_task(asyncio.to_thread(began.wait, 20)))
loop.close()
deadline = time.monotonic() + 15
while any(one.name == "streamq-leases" for one in threading.enumerate()) and time.monotonic() < deadline:
    time.sleep(0.05)
print("renews" if time.monotonic() >= deadline else "ended", flush=True)
"""


def test_a_worker_whose_loop_was_closed_renews_nothing(url: str) -> None:
    """Its tasks would be held for ever."""
    command = [sys.executable, "-c", CLOSES_ITS_LOOP, url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert "ended" in ended.stdout.split(), ended.stderr[-2000:]
