"""The life of a worker in this process: its start, its heartbeat, what happens to its server, its end."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamq import Blobs, FileBlobs, QueueFull, StreamQ, Worker, WorkerOptions
from streamq.keys import GROUP, type_keys
from streamq.worker.executors import Processes
from tests.conftest import command
from tests.running import OPTIONS, clean, serving, until, working


async def test_a_drain_lets_running_tasks_finish_and_hands_the_rest_back(app: StreamQ) -> None:
    started = asyncio.Semaphore(0)

    @app.task
    async def work(seconds: float) -> None:
        started.release()
        await asyncio.sleep(seconds)

    quick = await work.aenqueue(0.3)
    slow = await work.aenqueue(30)
    async with working(app, WorkerOptions(concurrency=2, drain_timeout=1, block=0.3)):
        await started.acquire()
        await started.acquire()
        queued = await work.aenqueue(0)
        began = time.monotonic()
    assert time.monotonic() - began < 15
    assert (await quick.astatus(), await slow.astatus(), await queued.astatus()) == (
        "completed",
        "ready",
        "ready",
    )
    assert app.inspector.type_stats("work").counters["handed_back"] >= 1
    assert app.inspector.workers() == []
    clean(app)


async def test_a_second_stop_ends_at_once(app: StreamQ) -> None:
    started = asyncio.Event()

    @app.task
    async def work() -> None:
        started.set()
        await asyncio.sleep(30)

    handle = await work.aenqueue()
    async with working(app, WorkerOptions(concurrency=2, drain_timeout=60, block=0.3)) as worker:
        await started.wait()
        began = time.monotonic()
        worker.stop()  # and again at the end of the block
    assert time.monotonic() - began < 15
    assert await handle.astatus() == "ready"


async def test_a_heartbeat_tells_what_runs(app: StreamQ) -> None:
    release = asyncio.Event()

    @app.task
    async def work() -> None:
        await release.wait()

    async with working(app, OPTIONS) as worker:
        handle = await work.aenqueue()
        await until(lambda: any(w.details.get("running_count") == 1 for w in app.inspector.workers()))
        [info] = app.inspector.workers()
        assert (info.name, info.alive, info.details["types"]) == (worker.name, True, ["work"])
        assert info.details["running"][0]["id"] == handle.id
        assert info.details["pid"] > 0
        assert info.details["host"]
        release.set()


class _Held(FileBlobs):
    """A store that does not answer until it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.release = threading.Event()

    def get(self, name: str) -> bytes:
        self.release.wait(60)
        return super().get(name)


@pytest.mark.parametrize("what", ["arguments", "process"])
async def test_a_task_that_waits_for_what_it_needs_is_seen_and_can_be_cancelled(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It ran "for 4 h", since its host had started; and a cancelled one ran all the same."""
    store = _Held(tmp_path)
    app = StreamQ("shop", url, blobs=Blobs(store, over=1024))
    app.task(name="work", executor="process" if what == "process" else "auto")(_length)

    async def never(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(Processes, "acquire", never)
    text = "x" * (5000 if what == "arguments" else 5)
    began = time.time()
    async with working(app, replace(OPTIONS, drain_timeout=0.2)) as worker:
        first, second = [await app.asend("work", {"text": text}) for _ in range(2)]
        await until(lambda: len(worker.parts.runner.running()) == 2)
        beat = orjson.loads(worker.parts.status.heartbeat(0, draining=False))
        assert beat["running"][0]["since_ms"] >= began * 1000 - 100
        assert await first.acancel() == "requested"
        await until(lambda: first.status() == "cancelled", 20)
    store.release.set()
    assert second.status() == "ready"
    assert app.inspector.type_stats("work").counters.get("started", 0) == 0
    clean(app)


def _length(text: str) -> int:
    return len(text)


async def test_what_comes_again_while_it_runs_is_not_run_twice(app: StreamQ) -> None:
    """Found by the chaos runs: with its group everything in hand is ready anew, for the same worker too."""
    release, starts = asyncio.Event(), 0

    @app.task(lease=60)  # no renewal comes while there is no group
    async def work() -> int:
        nonlocal starts
        starts += 1
        await release.wait()
        return starts

    stream = type_keys("shop", 0, "work").normal

    def pending() -> Any:
        return command(str(app.address), "XINFO", "GROUPS", stream)

    async with working(app) as worker:
        leases = worker.parts.leases
        await until(lambda: leases._control.connected)
        until_then = leases._listen_until
        await until(lambda: leases._listen_until != until_then)  # the renewal after the connect is over
        handle = await work.aenqueue()
        await until(lambda: starts == 1)
        command(str(app.address), "XGROUP", "DESTROY", stream, GROUP)
        await until(lambda: bool(pending()) and pending()[0][5] == 1)
        await (await work.options(priority="high").aenqueue()).astatus()
        await until(lambda: starts == 2)  # what was read with it has been taken
        release.set()
        assert await handle.aresult(5) == 2
    assert starts == 2
    assert app.inspector.type_stats("work").counters["completed"] == 2
    clean(app)


async def test_flushall_is_survived(app: StreamQ) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    async with serving(app):
        assert await (await work.aenqueue(1)).aresult(5) == 1
        command(str(app.address), "FLUSHALL")
        command(str(app.address), "SCRIPT", "FLUSH")
        assert await (await work.aenqueue(2)).aresult(10) == 2


async def test_a_worker_starts_on_a_full_server_and_drains_it(app: StreamQ) -> None:
    """Found by the chaos runs: its start was refused, so a full server stayed full after a deploy."""

    @app.task
    async def work(n: int) -> int:
        return n

    handles = [await work.aenqueue(n) for n in range(3)]
    command(str(app.address), "CONFIG", "SET", "maxmemory", "1")
    try:
        async with working(app):
            assert [await handle.aresult(5) for handle in handles] == [0, 1, 2]
            with pytest.raises(QueueFull, match="memory limit"):
                await work.aenqueue(4)
    finally:
        command(str(app.address), "CONFIG", "SET", "maxmemory", "0")
    clean(app)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_forked_child_does_not_repeat_its_parents_calls(app: StreamQ) -> None:
    """Guard: writers are renewed after a fork. A child that shared its parent's writer and number would
    be answered with the parent's task, and its own would be lost."""
    import os

    app.send("email", {"n": 0})
    pid = os.fork()
    if pid == 0:
        try:
            app.send("email", {"n": 1})
        finally:
            os._exit(0)
    app.send("email", {"n": 2})
    os.waitpid(pid, 0)
    assert app.inspector.type_stats("email").ready == 3


async def test_a_worker_told_to_stop_while_it_begins_takes_nothing(url: str) -> None:
    """What it took it would hand back, behind all others: found by the chaos runs."""
    app = StreamQ("shop", url, shards=2)

    @app.task
    async def never() -> None: ...

    for _ in range(10):
        await never.aenqueue()
    worker = Worker(app, OPTIONS)
    prepare = worker._config.registration.prepare

    async def stopped(shard: int, details: bytes) -> frozenset[str]:
        if shard == 1:
            worker.stop()
            await asyncio.sleep(0.1)  # the fetcher of the other shard would read meanwhile
        return await prepare(shard, details)

    worker._config.registration.prepare = stopped  # type: ignore[method-assign]
    await worker.run()
    assert +Counter(app.inspector.type_stats("never").counters) == {"accepted": 10}
