"""A worker and a daemon as in production, beside a test: for the few tests of the whole.

Owns the thread with their event loop. Handlers see the patches of the test, not its transaction: they run in
other threads, as the tasks come.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from streamq.daemon.daemon import Daemon
from streamq.options.service import DaemonOptions, WorkerOptions
from streamq.worker.embedded_worker import run_worker

if TYPE_CHECKING:
    from streamq.app.app import StreamQ

QUICK: Final = DaemonOptions(
    claim_interval=0.2, tidy_interval=1.0, discover_interval=0.2, expire_interval=0.2, sample_interval=5.0
)
"""A test does not wait for seconds."""


@contextmanager
def real_worker(app: StreamQ, options: WorkerOptions) -> Generator[None]:
    """Run a worker and a daemon during the block; they have drained and ended when it has. Raises what the
    worker fails with at its start."""
    beside = _Beside(app, options)
    beside.start()
    try:
        beside.wait_ready()
        yield
    finally:
        beside.end()


class _Beside(threading.Thread):
    def __init__(self, app: StreamQ, options: WorkerOptions) -> None:
        super().__init__(name="streamq-test-worker", daemon=True)
        self._app, self._options = app, options
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._leave = asyncio.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Serve in a loop of its own."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as error:  # noqa: BLE001 - for the test, whose thread is another
                self._error = error
            finally:
                self._ready.set()

    async def _serve(self) -> None:
        daemon = Daemon(self._app.address, QUICK)
        tending = asyncio.create_task(daemon.run())
        try:
            async with run_worker(self._app, self._options):
                self._ready.set()
                await self._leave.wait()
        finally:
            daemon.stop()
            await tending

    def wait_ready(self) -> None:
        """Wait until tasks are taken. Raises what it failed with."""
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Drain, and wait for the end. Raises what it failed with."""
        if self.is_alive() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._leave.set)
        self.join()
        if self._error is not None:
            raise self._error
