"""Makes the pictures of the documentation: python -m tests.dashboard.screenshots ops/docs/site

A shop with a day's history in its rollups, workers that work, and a few faults; then Chromium.
"""

from __future__ import annotations

import asyncio
import linecache
import math
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from tenacity import wait_fixed

from streamq import FlowGraph, Lane, StreamQ, WorkerOptions, blocking
from streamq.calls import question as question_calls
from streamq.calls.call import Call
from streamq.calls.rollup import MINUTE_MS, QUARTER_MS
from streamq.dashboard import dashboard
from streamq.embedded import EmbeddedServer
from streamq.histogram import bucket
from streamq.keys import TypeKeys, type_keys
from streamq.telemetry import logs
from tests.dashboard.browser import chromium, served
from tests.dashboard.shop import DAEMON, TRUSTED
from tests.running import tending, until, working

PACE = {"email": 240, "charge": 90, "invoice": 40, "thumbnail": 700, "report": 6}
RUN = {"email": 0.08, "charge": 0.22, "invoice": 0.4, "thumbnail": 0.6, "report": 14.0}
PAGES = {
    "overview": "/",
    "dead-letters": "/dead",
    "workers": "/workers",
    "type": "/types/charge",
    "lanes": "/types/invoice/lanes",
    "server": "/server",
}


FILE = "/srv/shop/tasks.py"
SOURCE = """\
async def charge(order: int, amount: str = "0") -> str:
    if order % 7 == 0:
        raise ConnectionError("the bank did not answer within 5 s")
    if order % 11 == 0:
        raise ValueError(f"order {order} has no currency")
    return "paid"


async def email(to: str, template: str = "welcome") -> str:
    return f"sent to {to}"


async def report(month: str) -> None:
    await hold.wait()


async def invoice(customer: str, order: int) -> None:
    await hold.wait()


async def fetch(day: str) -> list[str]:
    return [f"{day}/{n:02}.csv" for n in range(24)]


async def parse(file: str) -> int:
    return len(file)


async def load(region: str, rows: list[int]) -> int:
    if region == "asia":
        raise ConnectionError("the warehouse of asia did not answer within 5 s")
    return sum(rows)


async def publish(loaded: list[int]) -> int:
    return sum(loaded)


async def thumbnail(path: str, size: int) -> None:
    await hold.wait()
"""


def shop(app: StreamQ, hold: asyncio.Event) -> dict[str, Any]:
    """The task types, as if they came from the shop's own file: tracebacks show where they are."""
    linecache.cache[FILE] = (len(SOURCE), None, SOURCE.splitlines(keepends=True), FILE)
    handlers: dict[str, Any] = {"hold": hold, "__name__": "shop.tasks"}
    exec(compile(SOURCE, FILE, "exec"), handlers)  # noqa: S102 - our own text, above
    policy: dict[str, Any] = {
        "charge": {"max_attempts": 2, "backoff": wait_fixed(0.01)},
        "invoice": {"timeout": None, "lane": Lane("customer", running=2, fair=True), "running": 8},
        "load": {"max_attempts": 1},
    }
    names = (*PACE, "fetch", "parse", "load", "publish")
    return {name: app.task(**policy.get(name, {"timeout": None}))(handlers[name]) for name in names}


def nightly(app: StreamQ, types: dict[str, Any]) -> FlowGraph:
    """A flow whose map has run and one of whose regions failed."""
    wf = app.flow("nightly-import")
    files = wf.add(types["fetch"].bind("2026-11-30"))
    rows = wf.map(types["parse"], files)
    regions = ("europe", "asia", "america")
    loaded = [wf.add(types["load"].bind(one, rows.output), name=f"load_{one}") for one in regions]
    told = wf.add(types["publish"].bind([one.output for one in loaded]))
    told.then(types["email"].bind("ops@example.com", "import"))
    return wf


async def history(app: StreamQ) -> None:
    """What a day would have left in the rollups."""
    run = app._asyncs.current().transport.run
    now = await run(question_calls.now())
    for name, prefetch in PACE.items():
        keys = type_keys(app.name, 0, name)
        for step, number in ((MINUTE_MS, 60), (QUARTER_MS, 96)):
            for back in range(number):
                await run(_rollup(keys, name, prefetch, step, now // step - back))


def _rollup(keys: TypeKeys, name: str, prefetch: float, step: int, number: int) -> Call[Any]:
    minutes = step / MINUTE_MS
    wave = 1 + 0.5 * math.sin(number * step / 3_600_000 * 0.9) + random.uniform(-0.15, 0.15)
    done = int(prefetch * minutes * wave)
    failed = int(done * (0.012 if name == "charge" else 0.001))
    fields: dict[str, int] = {
        "accepted": int(done * random.uniform(0.97, 1.04)),
        "completed": done,
        "retried": failed,
    }
    fields["backlog"] = int(prefetch * wave * random.uniform(0.4, 0.9))
    for kind, scale in (("wait", 0.02 * wave), ("run", RUN[name])):
        for _ in range(30):
            slot = f"{kind}:{bucket(scale * random.lognormvariate(0, 0.7))}"
            fields[slot] = fields.get(slot, 0) + max(1, done // 30)
    key = keys.minute(number) if step == MINUTE_MS else keys.quarter(number)
    args = [part for pair in fields.items() for part in pair]
    return Call(None, (key,), ("HSET", key, *args), int)


async def main(folder: Path) -> None:
    logs.configure("error")
    blocking.loop_runs = lambda: False  # it looks at the queue from its own event loop, as tests do
    hold = asyncio.Event()
    with EmbeddedServer() as server, tempfile.TemporaryDirectory() as profile:
        app = StreamQ("shop", server.url)
        types = shop(app, hold)
        many = WorkerOptions(concurrency=8, drain_timeout=1, block=0.3, heartbeat=0.2)
        async with tending(app, DAEMON), working(app, many), working(app, many):
            await fill(app, types)
            await history(app)
            async with served(dashboard(app, auth=TRUSTED)) as address, chromium(Path(profile)) as browser:
                for theme in ("light", "dark"):
                    await shoot(browser, address, theme, folder, app)
            hold.set()
        await app.aclose()


async def fill(app: StreamQ, types: dict[str, Any]) -> None:
    for n in range(1, 60):
        await types["charge"].aenqueue(n * 1001 if n % 9 else n, amount=f"{n * 7}.50")
        await types["email"].aenqueue(f"user{n}@example.com")
    for n in range(1, 40):
        await types["charge"].aenqueue(n, amount=f"{n * 3}.00")
        await types["email"].options(delay=60.0 * n).aenqueue(f"later{n}@example.com", template="reminder")
    await until(lambda: all(one.ready + one.running == 0 for one in app.inspector.stats()), 60)
    flow = await nightly(app, types).astart(key="2026-11-30")
    await until(lambda: flow.status() == "failed", 30)
    orders = {"acme": 40, "globex": 25, "initech": 12, "umbrella": 7, "hooli": 3, "stark": 2}
    for customer, number in orders.items():
        await app.aenqueue_many([types["invoice"].bind(customer, n) for n in range(number)])
    await asyncio.to_thread(app.admin.acting_for("ada").pause_lane, "invoice", "globex")
    await types["report"].aenqueue("2026-10")
    for n in range(1, 40):
        await types["thumbnail"].aenqueue(f"cats/{n:04}.jpg", 256)
    await until(lambda: app.inspector.type_stats("thumbnail").running > 10)
    await asyncio.to_thread(app.admin.acting_for("ada").pause, "report", "month-end close is running")


async def shoot(browser: Any, address: str, theme: str, folder: Path, app: StreamQ) -> None:
    view = {"width": 1280, "height": 860}
    context = await browser.new_context(color_scheme=theme, viewport=view)
    page = await context.new_page()
    pages = dict(PAGES)
    pages["task"] = f"/tasks/{app.inspector.tasks('dead', 'charge', limit=1).rows[0].id}"
    pages["flow"] = f"/flows/{app.flows.page().flows[0].id}"
    for name, path in pages.items():
        await page.goto(address + path)
        await page.wait_for_timeout(800)
        whole = name == "flow"  # its graph is below
        await page.screenshot(path=folder / f"dashboard-{name}-{theme}.png", full_page=whole)
    await context.close()
    phone = await browser.new_context(color_scheme=theme, viewport={"width": 390, "height": 844})
    page = await phone.new_page()
    await page.goto(address)
    await page.wait_for_timeout(800)
    await page.screenshot(path=folder / f"dashboard-phone-{theme}.png")
    await phone.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
