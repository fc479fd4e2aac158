"""A queue on a bad day, for looking at it as an operator does: python -m tests.dashboard.scene

Eleven types, many waiting tasks, dead letters of several faults, lanes, one of which a dead letter halts,
schedules that are late, a stuck flow, two killed workers, a paused type, one that nobody serves, and no
daemon. It serves the dashboard until Ctrl-C; tests use it with fewer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

from tenacity import wait_fixed

from streamq import (
    Cron,
    DaemonOptions,
    Every,
    FlowGraph,
    Lane,
    Retry,
    StreamQ,
    Worker,
    WorkerOptions,
    blocking,
    get_context,
)
from streamq.dashboard import dashboard
from streamq.embedded import EmbeddedServer
from tests.dashboard.browser import served
from tests.dashboard.shop import TRUSTED
from tests.running import tending, until, working

LONG = "reconcile_the_ledgers_of_all_regional_subsidiaries_with_the_general_ledger_every_night"
SERVED = ("email", "charge", "webhook", "thumbnail", "export", "invoice", "sync_stock", "ship", "report")


def build(url: str) -> tuple[StreamQ, dict[str, Any]]:  # noqa: C901 - eleven handlers
    """The app and its eleven types: one has a very long name, and nobody serves two of them."""
    app = StreamQ("shop", url)

    @app.task
    async def email(to: str, subject: str = "Welcome") -> str:
        return f"sent to {to}"

    @app.task(max_attempts=2, backoff=wait_fixed(0.01))
    async def charge(order: int, amount: str = "0") -> str:
        if order % 3 == 0:
            raise ConnectionError("the bank did not answer within 5 s")
        if order % 5 == 0:
            raise ValueError(f"order {order} has no currency")
        return "paid"

    @app.task(max_attempts=1)
    async def webhook(url: str, body: dict[str, object]) -> int:
        status = int(str(body["status"]))
        if status >= 500:
            raise RuntimeError(f"{url} answered {status}: " + "x" * 300)
        return status

    @app.task(lane=Lane("customer", running=1), running=4)
    async def thumbnail(customer: str, path: str) -> None: ...

    @app.task
    async def export(month: str) -> str:
        return month

    @app.task
    async def invoice(number: int) -> int:
        if get_context().attempt == 1:
            raise Retry("the ledger is closed until noon", after="1h")
        return number

    @app.task(timeout="0.05s", max_attempts=1)
    async def sync_stock(shop: str) -> None:
        await asyncio.sleep(30)

    @app.task(timeout=None)
    async def report(month: str) -> None:
        await asyncio.sleep(3600)

    @app.task(max_attempts=1, lane=Lane("order", order=True, on_dead="halt"))
    async def ship(order: int, step: str) -> str:
        if order == 7 and step == "pack":
            raise LookupError("order 7 has no address")
        return step

    @app.task(name=LONG)
    async def reconcile(region: str) -> None: ...

    @app.task
    async def legacy_import(path: str) -> None: ...

    handlers = (
        email,
        charge,
        webhook,
        thumbnail,
        export,
        invoice,
        sync_stock,
        ship,
        report,
        reconcile,
        legacy_import,
    )
    return app, {one.name: one for one in handlers}


async def fill(app: StreamQ, task: dict[str, Any], waiting: int) -> None:
    """Let a day pass in a few seconds."""

    def bind(name: str, *args: Any, **more: Any) -> Any:
        return task[name].bind(*args, **more)

    daemon = DaemonOptions(claim_interval=0.2, tidy_interval=0.5, discover_interval=0.1, sample_interval=0.3)
    options = WorkerOptions(concurrency=8, drain_timeout=1, block=0.3, heartbeat=0.2, types=SERVED[:-1])
    async with tending(app, daemon):
        async with working(app, options):
            await app.aenqueue_many([bind("charge", n, amount=f"{n}.50") for n in range(1, 40)])
            await app.aenqueue_many([bind("email", f"user{n}@example.com") for n in range(30)])
            await app.aenqueue_many([bind("sync_stock", f"shop {n}") for n in range(3)])
            codes = (200, 200, 500, 503, 200)
            await app.aenqueue_many(
                [
                    bind("webhook", f"https://example.com/hooks/{n}", {"status": codes[n % 5]})
                    for n in range(25)
                ]
            )
            await app.aenqueue_many([bind("invoice", n) for n in range(5)])
            await app.aenqueue_many([bind("export", f"2026-{n:02}") for n in range(1, 9)])
            await app.aenqueue_many(
                [bind("ship", n, step) for n in (7, 8) for step in ("pick", "pack", "send")]
            )
            stuck = await journey(app, task).astart(key="2026-11")
            await until(lambda: stuck.status() == "stuck")
            failed = await monthly(app, task).astart(key="2026-10")
            await until(lambda: failed.status() == "failed")
            await until(lambda: all(one.ready + one.running == 0 for one in app.inspector.stats()), 60)
        await app.aenqueue_many([bind("email", f"user{n}@example.com") for n in range(waiting)])
        await asyncio.to_thread(app.admin.acting_for("ada").pause, "export", "the archive is being moved")
        await until(lambda: app.inspector.rollups("email")[-1].counts["backlog"] >= waiting)
    await app.aenqueue_many([bind("export", f"2025-{n:02}") for n in range(1, 9)])
    await app.aenqueue_many([bind("thumbnail", f"c{n % 7}", f"cats/{n:04}.jpg") for n in range(60)])
    await app.aenqueue_many([bind(LONG, f"region {n}") for n in range(12)])
    await app.aenqueue_many([bind("legacy_import", f"/old/{n}") for n in range(40)])
    wf = app.flow("takeover")
    first = wf.add(bind("legacy_import", "/old/first"))
    for n in range(60):
        wf.add(bind("legacy_import", f"/old/part {n}"), name=f"part_{n}", after=first)
    await wf.astart()
    for n in range(1, 30):
        await task["email"].options(delay=60.0 * n).aenqueue(f"later{n}@example.com")
    put = app.aschedules.put
    await put("nightly-ledgers", Cron("30 2 * * *", tz="Europe/Madrid"), bind(LONG, "all"))
    await put("stock", Every("10m"), bind("sync_stock", "all"))
    await put("hooks", Every("1s"), bind("webhook", "https://example.com/beat", {"status": 200}))
    for n in range(60):
        await put(f"export-{n:02}", Cron(f"{n} 4 * * *"), bind("export", f"customer {n}"))
    await app.aschedules.pause("export-07", "customer 7 has left")


def monthly(app: StreamQ, task: dict[str, Any]) -> FlowGraph:
    """A flow with a map, whose announcement fails; four branches wait for it."""
    wf = app.flow("monthly")
    first = wf.add(task["export"].bind("2026-10"))
    mails = wf.map(task["email"], [f"user{n}@example.com" for n in range(12)], name="mails", after=first)
    told = wf.add(
        task["webhook"].bind("https://example.com/done", {"status": 503}), name="announce", after=mails
    )
    for name in ("europe", "asia", "africa", "america"):
        wf.add(task["export"].bind(name), name=name, after=told)
    return wf


def journey(app: StreamQ, task: dict[str, Any]) -> FlowGraph:
    """A flow that fails, and whose undo fails as well."""
    wf = app.flow("journey")
    refused = {"status": 503}
    seat = wf.add(task["export"].bind("seat"), undo=task["webhook"].bind("https://example.com/undo", refused))
    wf.add(task["webhook"].bind("https://example.com/pay", refused), name="pay", after=seat)
    return wf


async def kill_two_workers(app: StreamQ, report: Any, url: str) -> None:
    """Two workers that die in the middle of their tasks."""
    handles = [await report.aenqueue(f"2026-{n:02}") for n in (1, 2, 3, 4)]
    groups = [_worker(url) for _ in range(2)]
    try:
        await until(lambda: sum(app.inspector.task(one.id).state == "running" for one in handles) == 4)
        await until(lambda: sum(len(one.details.get("running", [])) for one in app.inspector.workers()) == 4)
    finally:
        for one in groups:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()
    await until(lambda: not any(one.alive for one in app.inspector.workers()))


def _worker(url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.dashboard.scene", url], start_new_session=True)


async def serve_reports(url: str) -> None:
    """Be a worker, until killed."""
    app, _ = build(url)
    options = WorkerOptions(concurrency=2, types=("report",), heartbeat=0.3)
    await Worker(app, options).run()


async def prepare(url: str, waiting: int) -> None:
    """Make the whole scene on an empty server."""
    app, tasks = build(url)
    try:
        await fill(app, tasks, waiting)
        await kill_two_workers(app, tasks["report"], url)
    finally:
        await app.aclose()


async def main() -> None:
    blocking.loop_runs = lambda: False  # it looks at the queue from its own event loop, as tests do
    with EmbeddedServer() as server:
        await prepare(server.url, 50_000)
        app, _ = build(server.url)
        async with served(dashboard(app, auth=TRUSTED)) as address:
            print(f"{server.url}\n{address}", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve_reports(sys.argv[1]) if sys.argv[1:] else main())
