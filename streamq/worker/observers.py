"""Tells the observers among the hooks what becomes of attempts.

Owns the way from the runner and the settler to each of them, compiled when a worker starts: an event that
nobody observes costs nothing. An observer that raises is logged once and harms no task.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

from streamq.calls.call import Call
from streamq.hooks import implemented
from streamq.model.delivery import Delivery
from streamq.model.outcome import Outcome
from streamq.telemetry import logs
from streamq.worker.in_flight import Held
from streamq.worker.server_clocks import ServerClocks

Put = Callable[[Held, Outcome], None]
Finish = Callable[[Held, Outcome | None, float | None], None]
"""Takes a delivery whose outcome is decided, None where it is fenced, and when its handler was started."""


class Observers:
    """Of one worker. A hook whose attribute `active` is false is not told that attempts begin or are stored:
    see `compile`. put: settles a delivery."""

    def __init__(self, hooks: Sequence[object], clocks: ServerClocks, put: Put, worker: str) -> None:
        self._hooks, self._clocks, self._put, self._worker = hooks, clocks, put, worker
        self._raised: set[Callable[..., Any]] = set()
        self._log = logs.get_logger(worker=worker)
        self.failed: Callable[..., None] | None = self._all_of("attempt_failed")
        self._drains = implemented(hooks, "drain")
        self._arounds = implemented(hooks, "around_delivery")
        self.began: Callable[..., None] | None = None
        self.stored: Callable[..., None] | None = None
        self.compile()

    def compile(self) -> None:
        """Learn which hooks are active."""
        self.began = self._all_of("attempt_began")
        self.stored = self._all_of("attempt_stored")

    def _all_of(self, name: str) -> Callable[..., None] | None:
        """One function that tells all who observe this; None where nobody does."""
        active = [hook for hook in self._hooks if getattr(hook, "active", True)]
        methods = implemented(active, name)
        if not methods:
            return None

        def tell(*args: Any) -> None:
            for method in methods:
                try:
                    method(*args)
                except BaseException as error:  # noqa: BLE001 - it is the observer's, and harms no task
                    self._log_raised(method, error)

        return tell

    @property
    def is_around(self) -> bool:
        """Whether there is anything around a delivery."""
        return bool(self._arounds)

    @contextmanager
    def around(self, task: Delivery) -> Generator[None]:
        """What is around a delivery, the first outermost. One that raises is around nothing."""
        with ExitStack() as stack:
            for make in self._arounds:
                stack.enter_context(_Quiet(make, task, self._worker, self._log_raised))
            yield

    def _log_raised(self, method: Callable[..., Any], error: BaseException) -> None:
        """Log once what an observer raised: it may do so for every task."""
        if method in self._raised:
            return
        self._raised.add(method)
        with suppress(BaseException):
            self._log.error(
                "hook.failed",
                hook=getattr(method, "__qualname__", repr(method)),
                error=type(error).__name__,
                exc_info=error,
                fix="an observer must not raise; it is told on, and this is logged once",
            )

    def finisher(self) -> Finish:
        """The function that settles a delivery and tells that its attempt has ended."""
        put, monotonic, clocks, failed = self._put, time.monotonic, self._clocks, self._log_raised
        methods = implemented(self._hooks, "attempt_ended")

        def finish(held: Held, outcome: Outcome | None, started: float | None) -> None:
            if outcome is not None:
                put(held, outcome)
            seconds = None if started is None else monotonic() - started
            delivery = held.delivery
            for method in methods:
                try:
                    method(delivery, outcome, seconds)
                except BaseException as error:  # noqa: BLE001 - as above
                    failed(method, error)
            if self.stored is not None:
                held.ended = clocks.now_ms(held.delivery.shard), seconds

        return finish

    def tell_stored(self, held: Held, outcome: Outcome) -> None:
        """The server has stored the end of an attempt."""
        if self.stored is not None and held.ended is not None:
            at_ms, seconds = held.ended
            self.stored(held.delivery, outcome, seconds, at_ms)

    def drain(self) -> list[Call[Any]]:
        """What the observers have to send; called in the lease thread."""
        found: list[Call[Any]] = []
        for method in self._drains:
            try:
                found += method(self._clocks.now_ms())
            except BaseException as error:  # noqa: BLE001 - as above
                self._log_raised(method, error)
        return found


class _Quiet(AbstractContextManager[None]):
    """A context manager around a delivery, whose own faults harm no task."""

    def __init__(
        self,
        make: Callable[[Delivery, str], AbstractContextManager[Any]],
        task: Delivery,
        worker: str,
        raised: Callable[[Callable[..., Any], BaseException], None],
    ) -> None:
        self._make, self._task, self._worker, self._raised = make, task, worker, raised
        self._manager: AbstractContextManager[Any] | None = None

    def __enter__(self) -> None:
        try:
            manager = self._make(self._task, self._worker)
            manager.__enter__()
        except BaseException as error:  # noqa: BLE001 - as of an observer
            self._raised(self._make, error)
        else:
            self._manager = manager

    def __exit__(self, *error: Any) -> None:
        if self._manager is None:
            return
        try:
            self._manager.__exit__(*error)
        except BaseException as raised:  # noqa: BLE001 - as of an observer
            if raised is not error[1]:
                self._raised(self._make, raised)
