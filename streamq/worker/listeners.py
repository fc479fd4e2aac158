"""Tells an app's listeners of outcomes that are stored: `@app.on("dead")`.

Owns the events that wait, and the one asyncio task that tells them, in order. A listener may wait and may
fail: it holds up and harms nothing but the listeners after it. Must not hold more than `MOST` events.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from streamq.hooks import TaskEnded
from streamq.model.delivery import Delivery
from streamq.model.outcome import Died, Outcome, name_of
from streamq.resources.kinds import called
from streamq.telemetry import logs

MOST: Final = 1000
"""Events that wait. Further ones are dropped, and that is logged."""
LONGEST: Final = 30.0
"""Seconds that an async listener may take."""
FINISH: Final = 5.0
"""Seconds for waiting events when the worker ends."""

Listener = Callable[[TaskEnded], Any]


class Listeners:
    """The listeners of one app in one worker: an observer. in_threads: call `def` listeners in threads, so
    that they do not block the event loop."""

    def __init__(self, of: Mapping[str, Sequence[Listener]], worker: str, *, in_threads: bool = True) -> None:
        self._of, self._in_threads = of, in_threads
        self._waiting: deque[TaskEnded] = deque()
        self._failed: dict[str, tuple[str, str]] = {}
        self._told: set[object] = set()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._log = logs.get_logger(worker=worker)

    # -- observed ------------------------------------------------------------------------------------

    def attempt_failed(self, task: Delivery, error: str, message: str, _traceback: str) -> None:
        """Note why an attempt failed, until its outcome is stored."""
        if len(self._failed) < MOST:
            self._failed[task.place] = error, message

    def attempt_ended(self, task: Delivery, outcome: Outcome | None, _seconds: float | None) -> None:
        """Forget an attempt whose outcome will not be stored."""
        if outcome is None:
            self._failed.pop(task.place, None)

    def attempt_stored(self, task: Delivery, outcome: Outcome, seconds: float | None, at_ms: int) -> None:
        """Add an event, if there is a listener for it."""
        error, message = self._failed.pop(task.place, ("", ""))
        state = name_of(outcome)
        if not self._of.get(state):
            return
        if len(self._waiting) >= MOST:
            self._log_once(
                "dropped", "hook.dropped", waiting=MOST, fix="a listener is too slow: enqueue a task"
            )
            return
        reason = outcome.reason if isinstance(outcome, Died) else ""
        self._waiting.append(TaskEnded(state, task, seconds, at_ms, error, message, reason))
        self._idle.clear()
        self._wake.set()

    # -- told ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell what waits until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.tell()

    async def tell(self) -> None:
        """Tell what waits now."""
        while self._waiting:
            event = self._waiting.popleft()
            for listener in self._of[event.state]:
                try:
                    await self._call(listener, event)
                except asyncio.CancelledError:
                    raise
                except BaseException as error:  # noqa: BLE001 - a listener's error must not affect a task
                    self._log_once(
                        listener, "hook.failed", hook=getattr(listener, "__qualname__", repr(listener)),
                        error=type(error).__name__, exc_info=error,
                        fix="catch the error in it: it is still called, and this is logged only once",
                    )  # fmt: skip
        self._idle.set()

    async def _call(self, listener: Listener, event: TaskEnded) -> None:
        if inspect.iscoroutinefunction(called(listener)):
            async with asyncio.timeout(LONGEST):
                await listener(event)
        elif self._in_threads:
            await asyncio.to_thread(listener, event)
        else:
            listener(event)

    @property
    def waits(self) -> bool:
        """Return whether an event waits."""
        return bool(self._waiting)

    async def finish(self) -> None:
        """Wait until all is told, for a limited time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH):
                await self._idle.wait()

    def _log_once(self, what: object, event: str, **fields: Any) -> None:
        if what in self._told:
            return
        self._told.add(what)
        with suppress(BaseException):  # a log that raises must not end the telling
            self._log.error(event, **fields)
