"""How a task is run that was in hand when workers died: so that one that kills its worker harms only itself.

Owns the rules; starts no process itself. A task that lost all but one of the deliveries it may lose
(`max_lost`) is a suspect. It runs in a child process of its own, where the worker can start one: if it kills
that, it harms nobody, and the death counts as its last loss where nothing else ran beside it. Where something
did, which may have used up the memory, it is run once more alone. A loss together with the whole worker
proves nothing: the task goes on as a suspect, in the end alone in its worker, which takes nothing else
meanwhile. Only after three times `max_lost` losses in a row, the last third of them alone, is it buried for
those: a task that kills its whole host must come to an end too. `max_lost=1` is another promise: such a task
is never run again.
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
"""Times `max_lost` lost deliveries from which on a suspect runs alone in its worker."""
QUIET: Final = 60.0
"""Seconds that one which is to run alone waits for what else is in hand; then nothing new runs beside it."""
KEPT: Final = 30.0
"""Seconds that a child is kept for the next suspect."""
LOOK: Final = 0.02


class Company(Protocol):
    """What else is in a worker's hands."""

    def alone(self, attempt: Attempt) -> None:
        """Take nothing else until this one has ended."""
        ...

    def others(self, attempt: Attempt) -> int:
        """How many other handlers run."""
        ...


class Suspects:
    """Runs the suspects of one worker, one at a time. processes: where they run; None where a child process
    would not be what the worker is, since the program around it has made things ready."""

    def __init__(
        self,
        company: Company,
        processes: Processes | None,
        begin: Callable[[Attempt, Handler], Context],
    ) -> None:
        self._company = company
        self._processes = processes
        self._begin = begin
        self._idle: asyncio.TimerHandle | None = None

    async def run(self, attempt: Attempt, handler: Handler, here: Callable[[], Awaitable[bytes]]) -> bytes:
        """The encoded result. `here` runs the handler in the worker itself."""
        try:
            return await self._run(attempt, handler, here)
        finally:
            if self._idle is not None:
                self._idle.cancel()
            self._idle = asyncio.get_running_loop().call_later(KEPT, self._retire)

    def _retire(self) -> None:
        """The last suspect was long ago: the child has the whole app in memory for nothing."""
        if self._processes is not None and not self._processes.busy:
            self._processes.close()

    async def _run(self, attempt: Attempt, handler: Handler, here: Callable[[], Awaitable[bytes]]) -> bytes:
        if must_be_alone(handler, attempt.held.delivery) or not self._can_be_apart(handler):
            await self._quiet(attempt)
        if not self._can_be_apart(handler):
            return await here()
        try:
            return await self._apart(attempt, handler, here)
        except ProcessDied as died:
            if not self._company.others(attempt):
                raise _guilty(died) from None
        await self._quiet(attempt)
        try:
            return await self._apart(attempt, handler, here)
        except ProcessDied as died:
            raise _guilty(died) from None

    def _can_be_apart(self, handler: Handler) -> bool:
        module, _, name = handler.reference.partition(":")
        return self._processes is not None and module != "__main__" and "<" not in name

    async def _apart(self, attempt: Attempt, handler: Handler, here: Callable[[], Awaitable[bytes]]) -> bytes:
        processes = cast("Processes", self._processes)
        try:
            child = await processes.acquire(handler)
        except Exception:  # noqa: BLE001 - it cannot be imported there, which is nobody's guilt
            await self._quiet(attempt)
            return await here()
        if attempt.stop is not None:
            processes.release(child)
            raise asyncio.CancelledError
        attempt.child = child
        return await processes.run(child, handler, attempt.held.delivery, self._begin(attempt, handler))

    async def _quiet(self, attempt: Attempt) -> None:
        """Wait until nothing else is in hand."""
        self._company.alone(attempt)
        for _ in range(round(QUIET / LOOK)):
            if attempt.stop is not None:
                raise asyncio.CancelledError
            if not self._company.others(attempt):
                return
            await asyncio.sleep(LOOK)


def must_be_alone(handler: Handler, delivery: Delivery) -> bool:
    """Whether workers died with it so often that nothing is to run beside it."""
    return delivery.lost >= ALONE_FROM * handler.options.max_lost


def _guilty(died: ProcessDied) -> FailedInChild:
    """The end of a task that killed its process while nothing else ran."""
    message = f"it ran in a process of its own, as a suspect, and nothing beside it: {died}"
    return FailedInChild(Failure("WorkerLost", message, "", GiveUp("lost")))
