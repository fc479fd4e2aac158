"""Daemons that are killed in the middle, clocks that jump, one type that is broken beside others."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from streamq import Daemon, StreamQ, TypeStats
from streamq.daemon import promoter
from streamq.keys import GROUP
from tests.conftest import command
from tests.faults.proof import both, judged, limit
from tests.running import QUICK, clean, serving, tending, until, wait_until
from tests.variant import CLOCK, changed, own_clock

STREAM = "streamq:{shop:0}:work:normal"


def test_daemons_that_are_killed_in_the_middle_lose_nothing(app: StreamQ) -> None:
    """Promoting and reclaiming are one script each: whatever a daemon was doing, nothing is half done.
    Three are killed while they promote thousands and take back hundreds; then a worker does the rest."""
    url = str(app.address)

    @app.task(lease=0.2)
    async def work(n: int) -> None: ...

    app.enqueue_many([work.bind(n) for n in range(400)])
    command(url, "XGROUP", "CREATE", STREAM, GROUP, "0")
    command(url, "XREADGROUP", "GROUP", GROUP, "dead", "COUNT", 400, "STREAMS", STREAM, ">")

    def stats() -> TypeStats:
        return app.inspector.type_stats("work")

    for _ in range(3):
        app.enqueue_many([work.options(delay=0.001).bind(n) for n in range(1000)])
        before = stats().scheduled
        args = [sys.executable, "-m", "streamq", "daemon", "--url", url, "--claim-interval", "10ms"]
        with subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
            wait_until(lambda before=before: stats().scheduled < before)  # type: ignore[misc]
            daemon.kill()
        # What is due may wait: no daemon runs now, and the start of one may take many seconds.
        assert {problem.code for problem in app.inspector.audit().problems} <= {"unpromoted", "unreclaimed"}
    asyncio.run(_finished(app, 3400))
    assert stats().counters["completed"] == 3400


async def _finished(app: StreamQ, number: int) -> None:
    async with serving(app):
        await until(lambda: app.inspector.type_stats("work").counters.get("completed", 0) == number, 60)
    clean(app)
    await app.aclose()


@both
async def test_the_promoter_notices_a_clock_that_jumped(
    app: StreamQ, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C05, C07: due times are wall-clock times of the server; the promoter sleeps by its own clock. Guard: it
    looks again every LONGEST_SLEEP, so after a jump what is due by the new time does not wait for the old."""
    monkeypatch.setattr(promoter, "LONGEST_SLEEP", 0.2 if guarded else 600.0)
    url, now = str(app.address), int(time.time())

    def set_clock(seconds: int) -> None:
        command(
            url,
            "EVAL",
            "redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], ARGV[1], 0)",
            1,
            CLOCK,
            seconds,
        )

    @app.task
    async def work() -> int:
        return 1

    set_clock(now)
    with changed(own_clock):
        handle = await work.options(delay="1h").aenqueue()
        async with tending(app):
            await asyncio.sleep(0.3)  # it has gone to sleep
            set_clock(now - 7200)
            await asyncio.sleep(0.3)
            assert handle.status() == "scheduled"
            set_clock(now + 7200)
            with judged(guarded):
                await until(lambda: handle.status() == "ready", limit(guarded))


@both
async def test_one_type_that_is_broken_keeps_no_other_from_being_promoted(
    app: StreamQ, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stray SET on one schedule. Guard: each type is served apart, and one that failed looked at again a
    little later; at once, the promoter would do nothing else."""
    if not guarded:
        monkeypatch.setattr(promoter, "RETRY_DELAY", 0.0)
    rounds = 0

    def counted(name: str) -> None:
        nonlocal rounds
        rounds += name == "promote"

    await app.asend("aaa", {}, delay=60)
    command(str(app.address), "SET", "streamq:{shop:0}:aaa:schedule", "x")
    daemon = Daemon(app.address, QUICK, after_round=counted)
    running = asyncio.create_task(daemon.run())
    await daemon.ready.wait()
    handle = await app.asend("zzz", {}, delay=0.01)
    await until(lambda: handle.status() == "ready")
    before = rounds
    with judged(guarded):
        if guarded:
            await asyncio.sleep(0.5)
            assert rounds - before < 20
        else:
            await until(lambda: rounds - before >= 20)
            raise AssertionError("round after round")
    daemon.stop()
    await running
