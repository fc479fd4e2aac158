"""The event loop of a child process, in a thread beside its handlers, and what is open in it.

Owns that thread. It starts with the first handler that needs it: one with async hooks or dependencies, or of
an app with a lifespan. What it opens lasts as long as the process.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from streamq.registry.handler import Handler
from streamq.resources.declared import Resources
from streamq.resources.opened import LINGER, OpenResources

R = TypeVar("R")


class ChildLoop:
    """The event loop of this process. timeout: seconds for what is open to end."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: dict[Resources, OpenResources] = {}

    def submit(self, coroutine: Coroutine[Any, Any, R]) -> Future[R]:
        """Run a coroutine in the loop, in the caller's context."""
        loop = self._loop or self._start()
        found: Future[R] = Future()
        context = contextvars.copy_context()

        def start() -> None:
            task = loop.create_task(coroutine, context=context)
            task.add_done_callback(lambda _: _copy(task, found))

        loop.call_soon_threadsafe(start)
        return found

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = self._loop = asyncio.new_event_loop()
        threading.Thread(target=_run, args=(loop,), name="streamq-loop", daemon=True).start()
        return loop

    def opened(self, handler: Handler) -> OpenResources:
        """Return what is open for the handler's app, with all that the handler needs. Raises
        LifespanFailed."""
        found = self._opened.get(handler.resources)
        if found is None:
            found = self._opened[handler.resources] = OpenResources(handler.resources, self._timeout)
        if not found.has(handler.plan):
            self.submit(found.open([handler.plan])).result()
        return found

    def close(self) -> None:
        """Close what is open, within the time."""
        if self._loop is None:
            return
        for opened in self._opened.values():
            self.submit(opened.close()).result(self._timeout + 2 * LINGER)
        self._loop.call_soon_threadsafe(self._loop.stop)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    while not loop.is_closed():
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):  # of a task, whose waiter has it too
            continue
        return


def _copy(task: asyncio.Task[R], found: Future[R]) -> None:
    if task.cancelled():
        found.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        found.set_exception(error)
    else:
        found.set_result(task.result())
