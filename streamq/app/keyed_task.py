"""A task by its idempotency key, which may not exist yet: `app.find("email", key="order:17")`.

Owns the wait until it exists. What a task can do once it does is up to its handle. Must not create a task.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NoReturn

from streamq.app.handle import TaskHandle
from streamq.blocking import refuse
from streamq.client import flows
from streamq.client.loop_clients import AsyncClients
from streamq.client.sync_client import Client
from streamq.errors import ResultTimeout, UsageError
from streamq.flow import Flow
from streamq.model.task import CancelAnswer, SignalAnswer, State, TaskId
from streamq.options.checks import Duration, key_text, seconds
from streamq.options.names import check_name
from streamq.outages import Outages
from streamq.registry.registry import Registry

FIRST: Final = 0.02
LONGEST: Final = 1.0
"""Seconds between two looks for a task that does not exist yet."""


class KeyedTask:
    """A task by its key. Its methods are those of a handle; while there is no task its state is `unknown`."""

    def __init__(
        self,
        registry: Registry,
        client: Client,
        asyncs: AsyncClients,
        make: Callable[[str], TaskHandle[Any]],
        task_type: str,
        key: str,
    ) -> None:
        check_name(task_type)
        self._type, self._key = task_type, key_text(key, "key")
        self._registry, self._client, self._asyncs, self._make = registry, client, asyncs, make

    if not TYPE_CHECKING:  # type checkers know already that it cannot be awaited

        def __await__(self) -> NoReturn:
            raise UsageError(
                "a KeyedTask cannot be awaited: write await keyed.aresult(timeout=...) for the task's result"
            )

    def __repr__(self) -> str:
        return f"<KeyedTask {self._type!r} with key {self._key!r}>"

    def handle(self) -> TaskHandle[Any] | None:
        """Return the handle of the task; None if no task has the key, or its time is over. Raises UsageError
        if a task of another type has it."""
        refuse("KeyedTask.handle()", "await keyed.ahandle()")
        return self._handle(self._client.drive(self._holder()))

    async def ahandle(self) -> TaskHandle[Any] | None:
        """Return the handle, as `handle` does."""
        found = await self._asyncs.current().drive(self._holder())
        return self._handle(found)

    def _handle(self, found: TaskId | None) -> TaskHandle[Any] | None:
        if found is None:
            return None
        if found.type != self._type:
            raise UsageError(
                f"the idempotency key {self._key!r} belongs to task {found}, whose type is not {self._type!r}"
            )
        return self._make(str(found))

    def status(self) -> State:
        """Return the state of the task; `unknown` if there is none yet."""
        found = self.handle()
        return "unknown" if found is None else found.status()

    async def astatus(self) -> State:
        """Return the state, as `status` does."""
        found = await self.ahandle()
        return "unknown" if found is None else await found.astatus()

    def result(self, timeout: Duration | None = None) -> Any:
        """Wait until the task exists and has ended, at most `timeout`; return its result. Raises what a
        handle's `result` does, and ResultTimeout if there is no task in time."""
        refuse("KeyedTask.result()", "await keyed.aresult()")
        deadline, found = _deadline(timeout), None
        outages = Outages(deadline)
        for pause in _pauses(deadline):
            with outages.borne():
                found = self._handle(self._client.drive(self._holder(), outages.patience))
            if found is not None:
                return found.result(_left(deadline))
            time.sleep(pause)
        raise self._late(outages)

    async def aresult(self, timeout: Duration | None = None) -> Any:
        """Wait for the result, as `result` does."""
        import asyncio  # noqa: PLC0415 - a sync producer loads no event loop

        deadline, found = _deadline(timeout), None
        outages = Outages(deadline)
        for pause in _pauses(deadline):
            with outages.borne():
                found = self._handle(await self._asyncs.current().drive(self._holder(), outages.patience))
            if found is not None:
                return await found.aresult(_left(deadline))
            await asyncio.sleep(pause)
        raise self._late(outages)

    def cancel(self) -> CancelAnswer:
        """Cancel the task, as a handle does; `unknown` if there is none yet."""
        found = self.handle()
        return "unknown" if found is None else found.cancel()

    async def acancel(self) -> CancelAnswer:
        """Cancel the task, as `cancel` does."""
        found = await self.ahandle()
        return "unknown" if found is None else await found.acancel()

    def signal(self, name: str, value: object = None) -> SignalAnswer:
        """Give the task a signal, as a handle does; `unknown` if there is no task yet."""
        found = self.handle()
        return "unknown" if found is None else found.signal(name, value)

    async def asignal(self, name: str, value: object = None) -> SignalAnswer:
        """Give the task a signal, as `signal` does."""
        found = await self.ahandle()
        return "unknown" if found is None else await found.asignal(name, value)

    def _holder(self) -> Flow[TaskId | None]:
        return flows.holder_of_key(self._registry, self._key)

    def _late(self, outages: Outages) -> ResultTimeout:
        outages.check(f"a task {self._type!r} has the idempotency key {self._key!r}")
        return ResultTimeout(f"no task {self._type!r} has the idempotency key {self._key!r} yet")


def _deadline(timeout: Duration | None) -> float | None:
    return None if timeout is None else time.monotonic() + seconds(timeout, "timeout")


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _pauses(deadline: float | None) -> Iterator[float]:
    """Yield the pause after each look, until the deadline; there is one look at least."""
    pause = FIRST
    while True:
        left = _left(deadline)
        yield pause if left is None else min(pause, left)
        if left == 0:
            return
        pause = min(LONGEST, pause * 1.5)
