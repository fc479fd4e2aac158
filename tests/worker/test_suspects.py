"""Tasks that were in hand when workers died: apart from all others, so that only the guilty are buried."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streamq import StreamQ, TaskDead, Worker
from streamq.worker import worker as worker_module
from tests.conftest import command
from tests.running import OPTIONS, begun, clean, tending, until
from tests.worker import handlers


def suspect(app: StreamQ, task_type: str, payload: str = "{}", lost: int = 2) -> Any:
    """A task as reclaim leaves it when so many workers died with it in hand."""
    keys = f"streamq:{{shop:0}}:{task_type}"
    fields = ("i", f"n5-{lost}", "l", str(lost), "q", "n")
    place = command(str(app.address), "XADD", f"{keys}:suspect", "*", "p", payload, *fields)
    assert isinstance(place, bytes)
    command(str(app.address), "HSET", f"{keys}:index", f"n5-{lost}", b"s" + place)
    command(str(app.address), "HINCRBY", f"{keys}:counters", "accepted", 1)
    return app.handle(f"{task_type}:0:n5-{lost}")


@asynccontextmanager
async def exclusive(app: StreamQ, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Worker]:
    """A worker that has its process to itself, as one of `streamq worker` has."""
    monkeypatch.setattr(worker_module, "_tune_gc", lambda: None)
    worker = Worker(app, OPTIONS, exclusive=True)
    task = await begun(worker)
    try:
        yield worker
    finally:
        worker.stop()
        await task


@pytest.mark.parametrize("kind", ["on_loop", "in_thread"])
async def test_a_suspect_runs_in_a_process_of_its_own(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    app_ = handlers.at(str(app.address))
    async with exclusive(app_, monkeypatch):
        handle = suspect(app_, kind)
        pid, attempt, lost = await handle.aresult(20)
        assert pid != os.getpid()
        assert (attempt, lost) == (1, 2)
        again = await app_.asend(kind)
        assert (await again.aresult(5))[0] == os.getpid()
    clean(app_)


async def test_one_that_was_handed_back_and_lost_once_is_no_suspect_yet(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits where suspects do. In a process of its own its next death would be its last."""
    app_ = handlers.at(str(app.address))
    async with exclusive(app_, monkeypatch):
        handle = suspect(app_, "on_loop", lost=1)
        assert await handle.aresult(20) == [os.getpid(), 1, 1]
    clean(app_)


async def test_one_that_kills_its_process_is_guilty_and_harms_nobody(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    app_ = handlers.at(str(app.address))
    async with exclusive(app_, monkeypatch):
        bad = suspect(app_, "kills_itself")
        with pytest.raises(TaskDead, match="WorkerLost: it ran as a suspect in its own process") as caught:
            await bad.aresult(20)
        assert caught.value.reason == "lost"
        assert (await (await app_.asend("on_loop")).aresult(5))[0] == os.getpid()
    clean(app_)


async def test_one_whose_process_died_beside_others_has_another_try_alone(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kernel may have killed it for the memory of another."""
    app_ = handlers.at(str(app.address))
    path = tmp_path / "pids"
    async with exclusive(app_, monkeypatch) as worker:
        beside = await app_.asend(
            "waits_for", {"path": str(tmp_path / "beside"), "note": str(tmp_path / "x")}
        )
        await until((tmp_path / "x").exists)
        innocent = suspect(app_, "waits_for", f'{{"path": "{tmp_path / "go"}", "note": "{path}"}}')
        await until(lambda: path.exists() and bool(path.read_text().split()), 20)
        os.kill(int(path.read_text().split()[0]), signal.SIGKILL)
        await until(lambda: worker.parts.runner.is_alone)
        fresh = await app_.asend("on_loop")
        # Nothing is taken beside it; what a read under way brings is handed back.
        await until(lambda: fresh.status() == "ready")
        (tmp_path / "beside").touch()
        await until(lambda: len(path.read_text().split()) == 2, 20)
        assert fresh.status() == "ready"
        (tmp_path / "go").touch()
        assert await innocent.aresult(10) is None
        await beside.aresult(10)
        await fresh.aresult(10)
    clean(app_)


@pytest.mark.parametrize(("lost", "owned"), [(2, False), (6, True)])
async def test_a_suspect_that_cannot_be_apart_runs_alone(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch, lost: int, owned: bool
) -> None:
    """In a program's own worker, or where its handler cannot be imported; and after many losses."""
    running: set[str] = set()
    beside: list[set[str]] = []

    @app.task
    async def long() -> None:
        running.add("long")
        await asyncio.sleep(0.3)
        running.discard("long")

    @app.task
    async def doubtful() -> int:
        beside.append(set(running))
        await asyncio.sleep(0.2)
        beside.append(set(running))
        return os.getpid()

    async with tending(app), exclusive(app, monkeypatch) if owned else _embedded(app):
        await long.aenqueue()
        await until(lambda: bool(running))
        handle = suspect(app, "doubtful", lost=lost)
        await asyncio.sleep(0.05)
        for _ in range(5):
            await long.aenqueue()
        assert await handle.aresult(10) == os.getpid()
        assert beside == [set(), set()]
        await until(lambda: app.inspector.type_stats("long").counters.get("completed") == 6)
    clean(app)


@asynccontextmanager
async def _embedded(app: StreamQ) -> AsyncGenerator[Worker]:
    worker = Worker(app, OPTIONS)
    task = await begun(worker)
    try:
        yield worker
    finally:
        worker.stop()
        await task


async def test_a_suspect_that_waits_to_be_alone_is_handed_back_at_the_end(app: StreamQ) -> None:
    @app.task
    async def long() -> None:
        await asyncio.sleep(60)

    @app.task
    async def doubtful() -> None: ...

    worker = Worker(app, OPTIONS)
    task = await begun(worker)
    await long.aenqueue()
    await until(lambda: len(worker.parts.runner.running()) == 1)
    handle = suspect(app, "doubtful", lost=7)
    await until(lambda: worker.parts.runner.is_alone)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 10
    assert handle.status() == "ready"
    assert app.inspector.task(handle.id).detail["stream"] == "s"
    clean(app)


async def test_what_was_handed_back_runs_beside_a_suspect(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both wait in the stream that is read first; only the suspect has to be apart."""
    app_ = handlers.at(str(app.address))
    go, notes = tmp_path / "go", [tmp_path / name for name in ("suspect", "returned", "another")]
    payloads = [json.dumps({"path": str(go), "note": str(note)}) for note in notes]
    stream = "streamq:{shop:0}:waits_for:suspect"
    async with exclusive(app_, monkeypatch):
        suspect(app_, "waits_for", payloads[0])
        command(str(app.address), "XADD", stream, "*", "p", payloads[1])
        command(str(app.address), "HINCRBY", "streamq:{shop:0}:waits_for:counters", "accepted", 1)
        last = suspect(app_, "waits_for", payloads[2], lost=3)
        await until(lambda: notes[0].exists() and notes[1].exists(), 30)
        assert int(notes[1].read_text()) == os.getpid() != int(notes[0].read_text())
        assert last.status() == "ready"  # one suspect at a time
        go.touch()
        await last.aresult(20)
    clean(app_)
