"""Calls the hooks that observe attempts.

Owns the calls from the runner and the settler to each observer, compiled when a worker starts: an event
without observers costs nothing. An observer that raises is logged once and does not affect any task.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from types import TracebackType

from streamq.calls.call import AnyCall
from streamq.hooks import implemented
from streamq.model.delivery import Delivery
from streamq.model.outcome import Outcome
from streamq.telemetry import logs
from streamq.worker.in_flight import Held
from streamq.worker.server_clocks import ServerClocks

Put = Callable[[Held, Outcome], None]
Finish = Callable[[Held, Outcome | None, float | None], None]
"""Takes a delivery, its outcome (None if it is fenced) and the start time of its handler."""
Manager = AbstractContextManager[object]


class Observers:
    """The observers of one worker. A hook whose attribute `active` is false does not observe starts and
    stored outcomes: see `compile`. put: settles a delivery."""

    def __init__(self, hooks: Sequence[object], clocks: ServerClocks, put: Put, worker: str) -> None:
        self._hooks, self._clocks, self._put, self._worker = hooks, clocks, put, worker
        self._raised: set[Callable[..., object]] = set()
        self._log = logs.get_logger(worker=worker)
        self.failed: Callable[..., None] | None = self._compiled("attempt_failed")
        self._drains = implemented(hooks, "drain")
        self._arounds = implemented(hooks, "around_delivery")
        self.began: Callable[..., None] | None = None
        self.stored: Callable[..., None] | None = None
        self.compile()

    def compile(self) -> None:
        """Update which hooks are active."""
        self.began = self._compiled("attempt_began")
        self.stored = self._compiled("attempt_stored")

    def _compiled(self, name: str) -> Callable[..., None] | None:
        """Return one function that calls all active observers of an event; None if there are none."""
        active = [hook for hook in self._hooks if getattr(hook, "active", True)]
        methods = implemented(active, name)
        if not methods:
            return None

        def call_all(*args: object) -> None:
            for method in methods:
                try:
                    method(*args)
                except BaseException as error:  # noqa: BLE001 - an observer's error must not affect a task
                    self._log_raised(method, error)

        return call_all

    @property
    def is_around(self) -> bool:
        """Return whether a hook wraps deliveries."""
        return bool(self._arounds)

    @contextmanager
    def around(self, task: Delivery) -> Generator[None]:
        """Wrap a delivery in the hooks' context managers, the first one outermost. Skip one that raises."""
        with ExitStack() as stack:
            for make in self._arounds:
                stack.enter_context(_Isolated(make, task, self._worker, self._log_raised))
            yield

    def _log_raised(self, method: Callable[..., object], error: BaseException) -> None:
        """Log what an observer raised, once: it may raise for every task."""
        if method in self._raised:
            return
        self._raised.add(method)
        with suppress(BaseException):
            self._log.error(
                "hook.failed",
                hook=getattr(method, "__qualname__", repr(method)),
                error=type(error).__name__,
                exc_info=error,
                fix="catch the error in the observer: it is still called, and this is logged only once",
            )

    def finisher(self) -> Finish:
        """Return the function that settles a delivery and calls the observers of ended attempts."""
        put, monotonic, clocks, log_raised = self._put, time.monotonic, self._clocks, self._log_raised
        methods = implemented(self._hooks, "attempt_ended")

        def finish(held: Held, outcome: Outcome | None, started: float | None) -> None:
            if outcome is not None:
                put(held, outcome)
            seconds = None if started is None else monotonic() - started
            delivery = held.delivery
            for method in methods:
                try:
                    method(delivery, outcome, seconds)
                except BaseException as error:  # noqa: BLE001 - an observer's error must not affect a task
                    log_raised(method, error)
            if self.stored is not None:
                held.ended = clocks.now_ms(held.delivery.shard), seconds

        return finish

    def attempt_stored(self, held: Held, outcome: Outcome) -> None:
        """Call the observers of outcomes that Redis has stored."""
        if self.stored is not None and held.ended is not None:
            at_ms, seconds = held.ended
            self.stored(held.delivery, outcome, seconds, at_ms)

    def drain(self) -> list[AnyCall]:
        """Return the calls that the observers want to send. Called in the lease thread."""
        found: list[AnyCall] = []
        for method in self._drains:
            try:
                found += method(self._clocks.now_ms())
            except BaseException as error:  # noqa: BLE001 - an observer's error must not affect a task
                self._log_raised(method, error)
        return found


class _Isolated(AbstractContextManager[None]):
    """A hook's context manager around a delivery, whose own errors are logged instead of raised."""

    def __init__(
        self,
        make: Callable[[Delivery, str], Manager],
        task: Delivery,
        worker: str,
        log_raised: Callable[[Callable[..., object], BaseException], None],
    ) -> None:
        self._make, self._task, self._worker, self._log_raised = make, task, worker, log_raised
        self._manager: Manager | None = None

    def __enter__(self) -> None:
        try:
            manager = self._make(self._task, self._worker)
            manager.__enter__()
        except BaseException as error:  # noqa: BLE001 - a hook's error must not affect a task
            self._log_raised(self._make, error)
        else:
            self._manager = manager

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._manager is None:
            return
        try:
            self._manager.__exit__(kind, error, traceback)
        except BaseException as raised:  # noqa: BLE001 - a hook's error must not affect a task
            if raised is not error:
                self._log_raised(self._make, raised)
