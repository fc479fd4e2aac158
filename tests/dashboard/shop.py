"""A queue with something of everything in it, and the dashboard over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from tenacity import wait_fixed

from streamq import DaemonOptions, StreamQ, Worker, WorkerOptions, get_context
from streamq.dashboard import Anyone
from tests.running import tending, until, working

DAEMON = DaemonOptions(claim_interval=0.2, tidy_interval=0.5, discover_interval=0.1, sample_interval=0.1)
WORKER = WorkerOptions(concurrency=4, drain_timeout=1, block=0.3, heartbeat=0.1)
TRUSTED = Anyone("admin", "local")
"""Who asks is not the matter of most tests."""
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}"


class Shop:
    """An app with tasks in every state. `hold` keeps what runs until it is set."""

    def __init__(self, app: StreamQ) -> None:
        self.app = app
        self.hold = asyncio.Event()
        self.ids: dict[str, str] = {}

        @app.task
        async def email(to: str, password: str = "hunter2-secret") -> str:  # noqa: S107
            return f"sent to {to}"

        @app.task(max_attempts=2, backoff=wait_fixed(0.01))
        async def charge(order: int, note: str = "") -> int:
            if order < 0 or (note == "once" and get_context().attempt == 1):
                raise ValueError(f"order {order} {note}")
            return order

        @app.task(timeout=None)
        async def report(pages: int) -> int:
            await self.hold.wait()
            return pages

        @app.task
        async def image(path: str) -> None: ...

        self.email, self.charge, self.report, self.image = email, charge, report, image

    async def fill(self) -> None:
        """Put a task into every state."""
        for n in range(3):
            await self.email.aenqueue(f"user{n}@example.com")
        done = await self.email.aenqueue("ada@example.com")
        await done.aresult(15)
        dead = [await self.charge.aenqueue(-1 - n, note=HOSTILE) for n in range(3)]
        running = await self.report.aenqueue(12)
        later = await self.email.options(delay="1h").aenqueue(HOSTILE)
        gone = await self.email.options(delay="2h").aenqueue("nobody")
        await gone.acancel()
        ready = await self.image.aenqueue("cat.png")
        await until(lambda: self.app.inspector.type_stats("charge").dead == 3)
        await until(lambda: self.app.inspector.task(running.id).state == "running")
        await until(lambda: self._told(running.id))
        self.ids = {
            "completed": done.id, "dead": dead[0].id, "other dead": dead[1].id, "running": running.id,
            "scheduled": later.id, "cancelled": gone.id, "ready": ready.id,
        }  # fmt: skip

    def _told(self, running: str) -> bool:
        """Whether the heartbeats have come that pages are made of: the daemon's, and one of the worker that
        names what runs."""
        beats = [one.details.get("running", []) for one in self.app.inspector.workers()]
        ids = {each["id"] for running_there in beats for each in running_there}
        return running in ids and any(one.details for one in self.app.inspector.daemons())


@asynccontextmanager
async def open_shop(app: StreamQ) -> AsyncGenerator[tuple[Shop, Worker]]:
    """A filled shop with a daemon and a worker that serves all but the images."""
    shop = Shop(app)
    options = WorkerOptions(**{**_options(WORKER), "types": ("email", "charge", "report")})
    async with tending(app, DAEMON), working(app, options) as worker:
        await shop.fill()
        try:
            yield shop, worker
        finally:
            shop.hold.set()


def _options(options: WorkerOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__dataclass_fields__}
