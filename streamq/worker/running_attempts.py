"""The running attempts: their deadlines, and how an attempt is stopped.

Owns that set and its single timer. Reads the monotonic clock. Must not decide an outcome.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

from streamq.worker import stacks
from streamq.worker.attempt import Attempt, Stop

GRACE: Final = 5.0
"""Seconds for a handler to end after its cancellation; then its slot is written off."""


class RunningAttempts:
    """The running attempts of one worker, in its event loop. write_off: settles an attempt whose handler
    ignores its cancellation; its slot remains occupied."""

    def __init__(self, write_off: Callable[[Attempt], None]) -> None:
        self.attempts: set[Attempt] = set()
        self.written_off: set[Attempt] = set()
        self._write_off = write_off
        self._timer: asyncio.TimerHandle | None = None
        self._armed = math.inf

    def __len__(self) -> int:
        return len(self.attempts)

    def oldest_first(self) -> list[Attempt]:
        """Return a copy, oldest first. May be called from another thread."""
        return sorted(self.attempts, key=lambda attempt: attempt.since)

    def others(self, attempt: Attempt) -> int:
        """Return how many other handlers run."""
        return len(self.attempts - self.written_off - {attempt})

    def add(self, attempt: Attempt) -> None:
        """Add an attempt whose handler is about to be called, or waits for what it needs."""
        self.attempts.add(attempt)
        if attempt.deadline is not None and attempt.deadline < self._armed:
            self._arm(attempt.deadline)

    def remove(self, attempt: Attempt) -> None:
        """Remove an attempt whose handler has ended."""
        self.attempts.discard(attempt)
        if self.written_off:
            self.written_off.discard(attempt)

    def stop(self, attempt: Attempt, why: Stop) -> None:
        """Stop an attempt by cancelling its handler. The slot then decides the outcome."""
        if attempt.ended or attempt.stop is not None:
            return
        attempt.stop, attempt.stopped = why, time.monotonic()
        if attempt.started is None:
            # One in the queue has no slot yet, which checks `stop` first; others wait for what they need.
            if attempt.slot is not None:
                attempt.slot.cancel()
            return
        if why == "timeout":
            attempt.stack = _stack(attempt)
        if attempt.context is not None:
            attempt.context._cancelled = True  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        if attempt.slot is not None:
            attempt.slot.cancel()
        self._arm(attempt.stopped + GRACE)

    def close(self) -> None:
        """Stop the timer, and fence what still runs: it can no longer be settled."""
        if self._timer is not None:
            self._timer.cancel()
        for attempt in self.attempts:
            attempt.stop = attempt.stop or "fenced"

    def _arm(self, when: float) -> None:
        """Check the deadlines at `when` or earlier: with one timer for all instead of one per task."""
        if when >= self._armed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = when
        delay = max(0.0, when - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._check_deadlines)

    def _check_deadlines(self) -> None:
        self._timer, self._armed = None, math.inf
        now = time.monotonic()
        upcoming: list[float] = []
        for attempt in list(self.attempts):
            if attempt.stop is not None:
                if now < attempt.stopped + GRACE:
                    upcoming.append(attempt.stopped + GRACE)
                elif attempt not in self.written_off:
                    self.written_off.add(attempt)
                    self._write_off(attempt)
            elif attempt.deadline is not None:
                if now >= attempt.deadline:
                    self.stop(attempt, "timeout")
                else:
                    upcoming.append(attempt.deadline)
        if upcoming:
            self._arm(min(upcoming))


def _stack(attempt: Attempt) -> str:
    """Return the handler's stack: in its process, in its thread, or in the coroutine of its slot."""
    if attempt.child is not None:
        return attempt.child.handler_stack()
    context = attempt.context
    thread = 0 if context is None else context._thread  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
    if thread:
        return stacks.of_thread(thread)
    return "" if attempt.slot is None else stacks.of_coroutine(attempt.slot.get_coro())
