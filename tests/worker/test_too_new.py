"""Tasks that a newer release wrote: handed back, late and unharmed, until that release runs them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from streamq import StreamQ, envelope
from streamq.worker import too_new
from tests.conftest import command
from tests.doctor.looks import look, one
from tests.running import clean, serving, tending, until, working

NEWER = """
import asyncio, sys
from streamq import features
features.SPEAKS = features.SPEAKS | {"envelope:2", "payload:rot13", "batch", "field:Unique"}
from streamq import StreamQ, Worker, WorkerOptions
app = StreamQ("shop", sys.argv[1])

@app.task
async def email(to: str) -> str:
    return to

asyncio.run(Worker(app, WorkerOptions(block=0.5, heartbeat=0.2)).run())
"""
"""A worker of a release that does not exist yet: it can do more, and reads the same payloads."""

ASKED = {
    "envelope:2": ("v", "2"),
    "payload:rot13": ("z", "rot13"),
    "batch": ("N", "batch"),
    "field:Unique": ("Unique", "order-7"),
}


@contextmanager
def newer(app: StreamQ) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", NEWER, str(app.address)], cwd=Path(__file__).parents[2])
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def put(app: StreamQ, *fields: str, stream: str = "normal") -> str:
    """Write a task as another release may; return its id."""
    key, payload = f"streamq:{{shop:0}}:email:{stream}", '{"to":"ada"}'
    entry = command(str(app.address), "XADD", key, "*", "p", payload, *fields)
    assert isinstance(entry, bytes)
    command(str(app.address), "HINCRBY", "streamq:{shop:0}:email:counters", "accepted", 1)
    return f"email:0:{stream[0]}{entry.decode()}"


def old(app: StreamQ) -> list[str]:
    """An app of this release; its handler notes what it was called with."""
    called: list[str] = []

    @app.task
    async def email(to: str) -> str:
        called.append(to)
        return to

    return called


def state(app: StreamQ, task: str) -> str:
    return app.inspector.task(task).state


async def test_an_old_worker_hands_them_back_and_a_newer_one_runs_them(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(too_new, "FIRST", 0.2)
    monkeypatch.setattr(too_new, "LONGEST", 1.0)
    called = old(app)
    with capture_logs() as logs:
        async with serving(app):
            tasks = {name: put(app, *fields) for name, fields in ASKED.items()}
            plain = await app.asend("email", {"to": "ada"})
            await until(lambda: counters(app)["handed_back"] >= 2 * len(tasks), 30)
            assert await plain.aresult(20) == "ada"
            assert called == ["ada"]
            stats = app.inspector.type_stats("email")
            assert (stats.dead, stats.counters["started"], stats.counters["retried"]) == (0, 1, 0)
            with newer(app):
                await until(lambda: all(state(app, task) == "completed" for task in tasks.values()), 60)
    assert called == ["ada"]
    told = [one for one in logs if one["event"] == "task.too_new"]
    assert sorted(one["needs"] for one in told) == sorted(ASKED)
    assert {one["type"] for one in told} == {"email"}
    clean(app)


def counters(app: StreamQ) -> dict[str, int]:
    return app.inspector.type_stats("email").counters


async def test_what_is_handed_back_keeps_its_history_and_comes_later_each_time(app: StreamQ) -> None:
    called = old(app)
    async with working(app):
        task = put(
            app, "v", "2", "a", "2", "l", "1", "f", '[{"error":"E"}]', "x", "99999999999999", "later", "kept"
        )
        await until(lambda: state(app, task) == "scheduled", 30)
        info = app.inspector.task(task)
        assert (info.attempts_failed, info.lost, [one["error"] for one in info.failures]) == (2, 1, ["E"])
        assert (info.fields["k"], info.fields["v"], info.fields["later"]) == (b"1", b"2", b"kept")
        due = app.inspector.type_stats("email").next_due_in
        assert due is not None
        assert 20 < due <= 33
        app.admin.run_now(task)
        async with tending(app):
            await until(lambda: app.inspector.task(task).fields.get("k") == b"2", 30)
        due = app.inspector.type_stats("email").next_due_in
        assert due is not None
        assert 45 < due <= 66
    assert called == []
    clean(app)


async def test_it_can_be_cancelled_and_expires_meanwhile(app: StreamQ) -> None:
    old(app)
    async with working(app):
        task = put(app, "v", "2")
        await until(lambda: state(app, task) == "scheduled", 30)
        assert app.handle(task).cancel() == "cancelled"
    assert state(app, task) == "cancelled"
    clean(app)


async def test_doctor_tells_which_workers_lag(app: StreamQ) -> None:
    old(app)
    async with working(app):
        with newer(app):
            await until(
                lambda: len([one for one in app.inspector.workers() if one.details.get("speaks")]) == 2, 60
            )
            put(app, "v", "2")
            found: list[Any] = []

            def told() -> bool:
                found[:] = [check for check in look(str(app.address)) if check.name == "features"]
                return bool(found)

            await until(told, 30)
            assert "1 of 2 workers lack what others can do" in found[0].finding
            assert "batch, envelope:2, field:Unique, payload:rot13" in found[0].finding
            assert found[0].status == "warning"
        for _ in range(3):
            put(app, "v", "2")
        await until(lambda: any(check.name == "newer tasks of shop" for check in look(str(app.address))), 30)
        check = one(look(str(app.address)), "newer tasks of shop")
        assert check.status == "warning"
        assert "email (needs envelope:2)" in check.finding


def test_whoever_writes_names_cannot_fill_the_log() -> None:
    lagging = too_new.TooNewTasks("w")
    with capture_logs() as logs:
        for n in range(500):
            lagging.delay_ms("email", envelope.TooNew(f"field:F{n}", 0))
    assert len(logs) == too_new.MAX_KINDS
    assert len(lagging.counts()) == too_new.MAX_KINDS + 1
    assert sum(one["count"] for one in lagging.counts()) == 500
    assert lagging.delay_ms("email", envelope.TooNew("x", 999)) <= 1.1 * too_new.LONGEST * 1000
