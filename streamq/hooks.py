"""What an app has called around its tasks: a user's middleware, and streamq's own observers.

Owns the two kinds of hook, *around* (an enqueue call, a delivery, a handler) and *observer* (an attempt
began, failed, ended, was stored), and what an app has of each. Calls none itself: an app that registers
nothing pays for nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
)
from typing import Any, Final, TypeVar

from streamq.calls.call import Call
from streamq.context import Context
from streamq.errors import UsageError
from streamq.model.delivery import Delivery
from streamq.model.outcome import Outcome
from streamq.model.outcome import name_of as name_of  # noqa: PLC0414 - hooks ask what an outcome is called
from streamq.model.task import NewTask

R = TypeVar("R")
Manager = AbstractContextManager[Any] | AbstractAsyncContextManager[Any]


class Enqueue:
    """One enqueue call on its way to the server, as the hooks around it see it.

    app, task_type: whose tasks they are. tasks: what is sent; a hook may replace each by another. ids: after
    the call, the id of each task, '' for one that was refused.
    """

    __slots__ = ("_count", "app", "ids", "task_type", "tasks")

    def __init__(self, app: str, task_type: str, tasks: Sequence[NewTask]) -> None:
        self.app: str = app
        self.task_type: str = task_type
        self.tasks: list[NewTask] = list(tasks)
        self._count = len(tasks)
        self.ids: tuple[str, ...] = ()

    def carry_trace(self, header: bytes) -> None:
        """Have every task carry a trace context, which its deliveries have as `trace`."""
        self.tasks = [task._replace(fields=(*task.fields, ("t", header))) for task in self.tasks]

    def checked(self) -> list[NewTask]:
        """The tasks to send; UsageError where a hook has added one or taken one away."""
        if len(self.tasks) != self._count:
            raise UsageError(
                f"a hook around an enqueue call made {len(self.tasks)} tasks of {self._count}: it may "
                "replace each, and raise to refuse all"
            )
        return self.tasks


class Hook:
    """Middleware: override what you need, and pass an object to `StreamQ(hooks=[...])`.

    What is not overridden is never called. Of several hooks the first is the outermost.
    """

    def around_enqueue(self, call: Enqueue) -> AbstractContextManager[Any]:
        """Around an enqueue call, also an async one where `around_aenqueue` is not overridden.

        An exception before the `yield` refuses the call; what the call raises is raised at the `yield`.
        """
        raise NotImplementedError

    def around_aenqueue(self, call: Enqueue) -> AbstractAsyncContextManager[Any]:
        """Around an async enqueue call."""
        raise NotImplementedError

    def around_attempt(
        self, context: Context
    ) -> AbstractContextManager[Any] | AbstractAsyncContextManager[Any]:
        """Around a handler, in the process where it runs, under its timeout.

        An async context manager runs on the event loop, a sync one directly around the function, in the
        thread of a `def` handler. What it raises is the attempt's failure. It cannot hide a failure: an
        exception that it swallows is raised again.
        """
        raise NotImplementedError

    def around_delivery(self, task: Delivery, worker: str) -> AbstractContextManager[Any]:
        """Around all that a worker does with a delivery, from decoding it to `attempt_ended`; on its event
        loop. No exception of the handler comes through: see `attempt_failed`."""
        raise NotImplementedError

    def attempt_began(self, task: Delivery, at_ms: int) -> None:
        """A handler is about to be called, at this time by the server's clock."""

    def attempt_failed(self, task: Delivery, error: str, message: str, traceback: str) -> None:
        """An attempt has failed with an exception of this class, or its arguments could not be decoded."""

    def attempt_ended(self, task: Delivery, outcome: Outcome | None, seconds: float | None) -> None:
        """The worker has decided what becomes of a delivery; None: it is not the worker's any more.

        seconds: how long the handler ran; None where it was not called. Once for every delivery that the
        worker's slots took.
        """

    def attempt_stored(self, task: Delivery, outcome: Outcome, seconds: float | None, at_ms: int) -> None:
        """The server has stored the outcome: now it is true. at_ms: when the attempt ended."""

    def drain(self, now_ms: int) -> Sequence[Call[Any]]:  # noqa: ARG002 - to be overridden
        """Return what to send to the server, several times a second; called in the lease thread."""
        return ()


NAMES: Final = (
    "around_enqueue", "around_aenqueue", "around_attempt", "around_delivery",
    "attempt_began", "attempt_failed", "attempt_ended", "attempt_stored", "drain",
)  # fmt: skip


def implemented(hooks: Iterable[object], name: str) -> tuple[Callable[..., Any], ...]:
    """The methods of this name, of the hooks that have one of their own."""
    found = (hook for hook in hooks if getattr(type(hook), name, None) is not getattr(Hook, name))
    return tuple(getattr(hook, name) for hook in found if hasattr(hook, name))


class Hooks:
    """The hooks of one app, in their order. Raises UsageError for an object that is none."""

    def __init__(self, hooks: Iterable[object] = ()) -> None:
        self.all: tuple[object, ...] = tuple(hooks)
        for hook in self.all:
            if isinstance(hook, type) or not any(implemented([hook], name) for name in NAMES):
                raise UsageError(
                    f"hooks=[{hook!r}]: not a hook. Pass an object that has one of {', '.join(NAMES)}"
                )
        self.enqueue: tuple[Callable[[Enqueue], AbstractContextManager[Any]], ...]
        self.enqueue = implemented(self.all, "around_enqueue")
        self.aenqueue: tuple[Callable[[Enqueue], Manager], ...]
        self.aenqueue = tuple(
            method
            for hook in self.all
            for method in (implemented([hook], "around_aenqueue") or implemented([hook], "around_enqueue"))
        )
        self.attempt: tuple[Callable[[Context], Manager], ...] = implemented(self.all, "around_attempt")
        self.delivery: tuple[Callable[[Delivery, str], AbstractContextManager[Any]], ...]
        self.delivery = implemented(self.all, "around_delivery")


NO_HOOKS: Final = Hooks()


def call_within(managers: Iterable[AbstractContextManager[Any]], call: Callable[[], R]) -> R:
    """Call a function within context managers, the first outermost. An exception that one of them
    swallows is raised again: it may not pass for a success."""
    raised: BaseException | None = None
    with ExitStack() as stack:
        try:
            for manager in managers:
                stack.enter_context(manager)
            return call()
        except BaseException as error:
            raised = error
            raise
    raise _swallowed(raised)


async def await_within(managers: Iterable[Manager], call: Callable[[], Awaitable[R]]) -> R:
    """As `call_within`, with sync and async context managers."""
    raised: BaseException | None = None
    async with AsyncExitStack() as stack:
        try:
            for manager in managers:
                if isinstance(manager, AbstractAsyncContextManager):
                    await stack.enter_async_context(manager)
                else:
                    stack.enter_context(manager)
            return await call()
        except BaseException as error:
            raised = error
            raise
    raise _swallowed(raised)


def _swallowed(raised: BaseException | None) -> BaseException:
    return RuntimeError("a hook has ended before what it is around") if raised is None else raised
