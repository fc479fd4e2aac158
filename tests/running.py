"""Workers and daemons in the test's own event loop, and waiting for conditions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from streamq import Daemon, DaemonOptions, StreamQ, Worker, WorkerOptions
from streamq.testing.due import Due
from streamq.testing.runner import Runner
from streamq.transport.sync_transport import SyncTransport

QUICK = DaemonOptions(claim_interval=0.1, tidy_interval=0.2, discover_interval=0.2, expire_interval=0.2)
OPTIONS = WorkerOptions(concurrency=10, drain_timeout=5, block=0.5, heartbeat=0.2)


async def begun(service: Worker | Daemon) -> asyncio.Task[None]:
    """Run a service; returns when it is ready, and raises what it failed with where it never was."""
    task = asyncio.create_task(service.run())
    ready = asyncio.create_task(service.ready.wait())
    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if task.done():
        task.result()
    return task


@asynccontextmanager
async def working(app: StreamQ, options: WorkerOptions = OPTIONS) -> AsyncGenerator[Worker]:
    """A worker that takes tasks; it is drained at the end."""
    worker = Worker(app, options)
    task = await begun(worker)
    try:
        yield worker
    finally:
        worker.stop()
        await task


@asynccontextmanager
async def tending(app: StreamQ, options: DaemonOptions = QUICK) -> AsyncGenerator[Daemon]:
    """A daemon with short intervals."""
    daemon = Daemon(app.address, options)
    task = await begun(daemon)
    try:
        yield daemon
    finally:
        daemon.stop()
        await task


@asynccontextmanager
async def serving(
    app: StreamQ, options: WorkerOptions = OPTIONS, daemon: DaemonOptions = QUICK
) -> AsyncGenerator[Worker]:
    """A worker and a daemon."""
    async with tending(app, daemon), working(app, options) as worker:
        yield worker


def work_off(app: StreamQ) -> None:
    """Run what is ready in this thread, through the scripts of a worker: cheaper than one."""
    transport = SyncTransport(app.address)
    runner = Runner(app.registry, transport, Due(app.registry, transport))
    try:
        while (held := runner.take()) is not None:
            runner.settle(held, runner.run(held))
    finally:
        runner.close()
        transport.close()


async def until(condition: Callable[[], bool], limit: float = 30.0) -> None:
    """Wait for a condition, without blocking the loop; AssertionError after the limit."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit:g} s"
        await asyncio.sleep(0.005)


def wait_until(condition: Callable[[], bool], limit: float = 20.0) -> None:
    """The same for tests without a loop."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit:g} s"
        time.sleep(0.01)


def clean(app: StreamQ) -> None:
    """The books are right and nothing is where it should not be."""
    audit = app.inspector.audit()
    assert audit.problems == []
