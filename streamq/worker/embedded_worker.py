"""A worker inside another program's event loop: `async with app.run_worker():`.

Owns its start and its end there. Installs no signal handlers: the program has its own, and leaves the block
when one arrives. Must not end the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from streamq.options.service import WorkerOptions
from streamq.worker.loading import App
from streamq.worker.worker import Worker


@asynccontextmanager
async def run_worker(app: App, options: WorkerOptions) -> AsyncGenerator[Worker]:
    """Run a worker during the block: it takes tasks when the block begins and has drained when it has ended.

    Raises what the worker fails with at its start. Cancelled while it drains, it hands back at once.
    """
    worker = Worker(app, options)
    running = asyncio.create_task(worker.run(), name="streamq-worker")
    try:
        await _ready(worker, running)
        yield worker
    finally:
        await _ended(worker, running)


async def _ready(worker: Worker, running: asyncio.Task[None]) -> None:
    """Wait until the worker takes tasks, or has ended. Raises its error."""
    ready = asyncio.create_task(worker.ready.wait())
    try:
        await asyncio.wait([ready, running], return_when=asyncio.FIRST_COMPLETED)
    finally:
        ready.cancel()
    if running.done():
        running.result()


async def _ended(worker: Worker, running: asyncio.Task[None]) -> None:
    """Drain the worker. A cancellation meanwhile ends the drain, and is raised when the worker has ended."""
    if not running.done():
        worker.stop()
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            if cancelled is None:
                worker.stop()  # the second request: hand back
            cancelled = error
    if cancelled is not None:
        with suppress(BaseException):
            running.result()
        raise cancelled
    running.result()
