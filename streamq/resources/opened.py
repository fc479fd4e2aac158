"""What is open in a process: the app's lifespan, and the dependencies that the process keeps.

Owns their opening and closing, in one asyncio task from start to end, because a task group or a cancel scope
must be left by the task that entered it. Must not outlive the event loop in which it was opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, NamedTuple

from streamq.errors import LifespanFailed
from streamq.fingerprint import raised_at
from streamq.resources.declared import Resources
from streamq.resources.lifespan import wrong_yields
from streamq.resources.plan import DependencyPlan, Key, Node
from streamq.telemetry import logs

LINGER: Final = 1.0
"""Seconds for a lifespan to end after its time was over and it was cancelled."""


class _Request(NamedTuple):
    """Asks for values that a plan needs."""

    plan: DependencyPlan | None
    answer: asyncio.Future[None]


class OpenResources:
    """What one worker has open. values: by key. timeout: seconds for the end."""

    def __init__(self, declared: Resources, timeout: float = 10.0) -> None:
        self._declared = declared
        self._timeout = timeout
        self.values: dict[Key, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._requests: asyncio.Queue[_Request | None]
        self._log = logs.get_logger()

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The asyncio task in which all is open; None if nothing is."""
        return self._task

    @property
    def lasts(self) -> bool:
        """Return whether something is open that takes time to end."""
        return self._task is not None

    @property
    def has_state(self) -> bool:
        """Return whether the app has a lifespan."""
        return self._declared.lifespan is not None

    @property
    def state(self) -> object:
        """The value of the lifespan."""
        return self.values[self._declared.lifespan, "process"]

    def has(self, plan: DependencyPlan | None) -> bool:
        """Return whether all is open that an attempt with this plan needs."""
        if self.has_state and (self._declared.lifespan, "process") not in self.values:
            return False
        return plan is None or plan.keys <= self.values.keys()

    async def open(self, plans: Iterable[DependencyPlan | None]) -> None:
        """Start the lifespan, unless it runs, and open what these plans need. Raises LifespanFailed."""
        for plan in plans:
            if self.has(plan):
                continue
            if self._task is None:
                self._requests = asyncio.Queue()
                self._task = asyncio.create_task(self._run(), name="streamq-lifespan")
            request = _Request(plan, asyncio.get_running_loop().create_future())
            self._requests.put_nowait(request)
            await asyncio.wait([request.answer, self._task], return_when=asyncio.FIRST_COMPLETED)
            if not request.answer.done():
                raise LifespanFailed("the lifespan has ended")
            request.answer.result()

    async def open_until(self, stop: asyncio.Event, plans: Iterable[DependencyPlan | None]) -> bool:
        """Open as `open` does. Return False if `stop` is set before all is open; then all is closed."""
        opening, stopping = asyncio.ensure_future(self.open(plans)), asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait([opening, stopping], return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()
                return True
            if self._task is not None:
                self._task.cancel()
        except BaseException:
            await self.close()
            raise
        finally:
            opening.cancel()
            stopping.cancel()
        await self.close()
        return False

    async def close_anyway(self) -> None:
        """Close as `close` does, even if the caller is cancelled meanwhile."""
        closing = asyncio.create_task(self.close())
        while not closing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([closing])

    async def close(self) -> None:
        """Close everything in reverse, within the time. Errors are logged."""
        task = self._task
        if task is None:
            return
        self._requests.put_nowait(None)
        await asyncio.wait([task], timeout=self._timeout)
        if not task.done():
            self._log.error(
                "lifespan.timeout", seconds=self._timeout, fix="raise lifespan_timeout, or close faster"
            )
            task.cancel()
            await asyncio.wait([task], timeout=LINGER)
        self._task = None
        self.values.clear()

    async def _run(self) -> None:
        """Open what is asked for until closed. Its own errors are logged: there is nobody to raise them
        to."""
        try:
            async with AsyncExitStack() as stack:
                await self._serve(stack)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit in a user's code must not end the loop
            self._log.error("lifespan.failed", error=self._told(error, "at its end"), exc_info=error)

    async def _serve(self, stack: AsyncExitStack) -> None:
        while (request := await self._requests.get()) is not None:
            try:
                await self._open(stack, request.plan)
            except asyncio.CancelledError:
                request.answer.cancel()
                raise
            except BaseException as error:  # noqa: BLE001 - goes to who asked
                if not request.answer.done():
                    request.answer.set_exception(
                        error if isinstance(error, LifespanFailed) else _unexpected(error)
                    )
            else:
                with suppress(asyncio.InvalidStateError):
                    request.answer.set_result(None)

    async def _open(self, stack: AsyncExitStack, plan: DependencyPlan | None) -> None:
        lifespan = self._declared.lifespan
        if lifespan is not None and (lifespan, "process") not in self.values:
            try:
                self.values[lifespan, "process"] = await stack.enter_async_context(lifespan.enter())
            except (Exception, SystemExit) as error:
                raise LifespanFailed(self._told(error, "at its start")) from error
        if plan is None:
            return
        for number in plan.process:
            node = plan.nodes[number]
            if node.key not in self.values:
                try:
                    self.values[node.key] = await self._made(stack, plan, node)
                except (Exception, SystemExit) as error:
                    raise LifespanFailed(
                        _told(f"the dependency {node.name}", error, "at its start")
                    ) from error

    async def _made(self, stack: AsyncExitStack, plan: DependencyPlan, node: Node) -> Any:
        given = {name: self.values[plan.nodes[number].key] for name, number in node.needs}
        made = node.make(**given)
        if node.kind == "awaited":
            return await made
        if node.kind == "async":
            return await stack.enter_async_context(made)
        return stack.enter_context(made) if node.kind == "sync" else made

    def _told(self, error: BaseException, when: str) -> str:
        lifespan = self._declared.lifespan
        return _told("a dependency" if lifespan is None else f"the lifespan {lifespan.name}", error, when)


def _told(what: str, error: BaseException, when: str) -> str:
    """Return one line: what failed, when, why and where."""
    if wrong := wrong_yields(error):
        return f"{what} failed {when}: {wrong}"
    frame = raised_at(error.__traceback__)
    where = f" ({frame})" if frame is not None else ""
    return f"{what} failed {when}: {type(error).__name__}: {' '.join(str(error).split())}{where}"


def _unexpected(error: BaseException) -> LifespanFailed:
    found = LifespanFailed(_told("the start", error, ""))
    found.__cause__ = error
    return found
