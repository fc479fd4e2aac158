"""Runs suspects: tasks that were in flight when workers died, so that a task that kills its worker harms only
itself.

Owns the rules; must not start a process itself. A task that has lost all but one of the deliveries it may
lose (`max_lost`) is a suspect. It runs in its own child process, if the worker can start one. If it kills the
child, no other task is affected, and the death counts as its last loss if no other handler ran. If another
one ran, which may have used up the memory, the suspect is run once more, alone. A loss together with the
whole worker proves nothing: the task remains a suspect and finally runs alone in its worker, which fetches
nothing meanwhile. Only after three times `max_lost` losses in a row, the last third of them alone, does it
become a dead letter for that reason: a task that kills its whole host must come to an end too. `max_lost=1`
is a stronger promise: such a task is never run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, cast

from streamq.context import Context
from streamq.errors import ProcessDied
from streamq.model.delivery import Delivery
from streamq.registry.handler import Handler
from streamq.retry import GiveUp
from streamq.worker.attempt import Attempt
from streamq.worker.executors import FailedInChild, Processes
from streamq.worker.failures import Failure

ALONE_FROM: Final = 2
"""Multiples of `max_lost` lost deliveries from which on a suspect runs alone in its worker."""
LONGEST_WAIT: Final = 60.0
"""Seconds that a suspect waits for other running handlers. After that it runs beside them."""
CHILD_KEPT: Final = 30.0
"""Seconds that an idle child is kept for the next suspect."""
POLL_INTERVAL: Final = 0.02

RunLocally = Callable[[], Awaitable[bytes]]
"""Runs the handler in the worker itself."""


class Isolation(Protocol):
    """The control that suspects have over the other tasks of a worker."""

    def run_alone(self, attempt: Attempt) -> None:
        """Start nothing else until this attempt has ended."""
        ...

    def others_running(self, attempt: Attempt) -> int:
        """Return how many other handlers run."""
        ...


class Suspects:
    """Runs the suspects of one worker, one at a time. processes: runs them; None if a child process would
    differ from the worker, because the program around the worker has set up state."""

    def __init__(
        self,
        isolation: Isolation,
        processes: Processes | None,
        begin: Callable[[Attempt, Handler], Context],
    ) -> None:
        self._isolation = isolation
        self._processes = processes
        self._begin = begin
        self._close_timer: asyncio.TimerHandle | None = None

    async def run(self, attempt: Attempt, handler: Handler, run_locally: RunLocally) -> bytes:
        """Run a suspect and return its encoded result."""
        try:
            return await self._run(attempt, handler, run_locally)
        finally:
            if self._close_timer is not None:
                self._close_timer.cancel()
            self._close_timer = asyncio.get_running_loop().call_later(CHILD_KEPT, self._close_idle)

    def _close_idle(self) -> None:
        """Close the idle child, which holds the whole app in memory."""
        if self._processes is not None and not self._processes.busy:
            self._processes.close()

    async def _run(self, attempt: Attempt, handler: Handler, run_locally: RunLocally) -> bytes:
        if must_run_alone(handler, attempt.held.delivery) or not self._can_run_in_child(handler):
            await self._wait_until_alone(attempt)
        if not self._can_run_in_child(handler):
            return await run_locally()
        try:
            return await self._run_in_child(attempt, handler, run_locally)
        except ProcessDied as died:
            if not self._isolation.others_running(attempt):
                raise _worker_lost(died) from None
        await self._wait_until_alone(attempt)
        try:
            return await self._run_in_child(attempt, handler, run_locally)
        except ProcessDied as died:
            raise _worker_lost(died) from None

    def _can_run_in_child(self, handler: Handler) -> bool:
        module, _, name = handler.reference.partition(":")
        return self._processes is not None and module != "__main__" and "<" not in name

    async def _run_in_child(self, attempt: Attempt, handler: Handler, run_locally: RunLocally) -> bytes:
        processes = cast("Processes", self._processes)
        try:
            child = await processes.acquire(handler)
        except Exception:  # noqa: BLE001 - the child cannot import the handler, which is not a loss
            await self._wait_until_alone(attempt)
            return await run_locally()
        if attempt.stop is not None:
            processes.release(child)
            raise asyncio.CancelledError
        attempt.child = child
        return await processes.run(child, handler, attempt.held.delivery, self._begin(attempt, handler))

    async def _wait_until_alone(self, attempt: Attempt) -> None:
        """Start nothing else, and wait until no other handler runs."""
        self._isolation.run_alone(attempt)
        for _ in range(round(LONGEST_WAIT / POLL_INTERVAL)):
            if attempt.stop is not None:
                raise asyncio.CancelledError
            if not self._isolation.others_running(attempt):
                return
            await asyncio.sleep(POLL_INTERVAL)


def is_suspect(handler: Handler, delivery: Delivery) -> bool:
    """Return whether the task must run as a suspect. One that was handed back before it was lost waits where
    suspects do, after fewer losses too."""
    return delivery.suspect and delivery.lost >= handler.options.max_lost - 1


def must_run_alone(handler: Handler, delivery: Delivery) -> bool:
    """Return whether so many workers died with the task that no other handler may run beside it."""
    return delivery.lost >= ALONE_FROM * handler.options.max_lost


def _worker_lost(died: ProcessDied) -> FailedInChild:
    """Return the failure of a suspect that killed its process while no other handler ran."""
    message = f"it ran as a suspect in its own process, and no other handler ran: {died}"
    return FailedInChild(Failure("WorkerLost", message, "", GiveUp("lost")))
