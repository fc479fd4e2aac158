"""Delivery -> outcome: one attempt, from its payload to what becomes of the task.

Owns the call of the handler and what its end means. Never raises: whatever a handler does is an outcome.
Knows no slot and writes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from streamq import envelope, retry
from streamq.context import CURRENT, Context
from streamq.errors import DecodeError
from streamq.hooks import await_within
from streamq.model.outcome import Cancelled, Completed, Died, Expired, HandedBack, Outcome, Retried
from streamq.registry.handler import Handler
from streamq.registry.registry import Registry
from streamq.telemetry.counters import Counters
from streamq.telemetry.traces import trace_id
from streamq.worker import failures
from streamq.worker.attempt import Attempt
from streamq.worker.executors import Executors, FailedInChild
from streamq.worker.in_flight import Held, Report
from streamq.worker.observers import Observers
from streamq.worker.server_clocks import ServerClocks
from streamq.worker.suspects import Company, Suspects

_FORGOTTEN: Final = Completed()


class Attempts:
    """Runs attempts of one worker. `taken` is told of each whose handler is about to be called, when its
    deadline is known. `closing`: whether the event loop itself is ended."""

    def __init__(
        self,
        registry: Registry,
        worker: str,
        executors: Executors,
        clocks: ServerClocks,
        counters: Counters,
        observers: Observers,
        taken: Callable[[Attempt], None],
        closing: Callable[[], bool],
        company: Company,
    ) -> None:
        self._registry = registry
        self._worker = worker
        self._mark = envelope.worker_mark(worker)
        self._threads, self._processes = executors.threads, executors.processes
        self._clocks = clocks
        self._counters = counters
        self._observers = observers
        self._taken = taken
        self._closing = closing
        self._suspects = Suspects(company, executors.apart, self._begin)
        self.stopping = False

    async def run(self, attempt: Attempt) -> Outcome | None:
        """decode -> find the handler -> call it under its timeout -> decide. None where it is fenced."""
        delivery = attempt.held.delivery
        if attempt.stop is not None or self.stopping or delivery.expires_ms is not None:
            if attempt.stop == "fenced":
                return None
            early = self._early(attempt)
            if early is not None:
                return early
        handler = self._registry.handlers[delivery.type]
        try:
            args, kwargs = handler.arguments(delivery.payload)
        except BaseException as error:  # noqa: BLE001 - also what a user's model raises
            return self._judged(attempt, handler, _undecoded(error), started=False)
        try:
            # The plain case takes no step more than it must: each costs a coroutine.
            if handler.options.executor == "process" or delivery.suspect:
                result = await self._apart(attempt, handler, args, kwargs)
            else:
                result = await self._here(attempt, handler, args, kwargs)
        except BaseException as error:  # SystemExit in a handler must not end the worker
            if isinstance(error, GeneratorExit) and asyncio._get_running_loop() is None:  # noqa: SLF001
                raise  # the loop is gone, and what ran in it is thrown away
            return self.failed(attempt, handler, error)
        return (
            self._completed(attempt, handler, result)
            if attempt.stop is None
            else self._late(attempt, handler, result)
        )

    def _late(self, attempt: Attempt, handler: Handler, result: bytes) -> Outcome | None:
        """The outcome of a handler that returned although it had been told to stop."""
        if attempt.stop == "fenced":
            return None
        if attempt.stop == "timeout":
            return self.failed(attempt, handler, asyncio.CancelledError())
        return self._completed(attempt, handler, result)

    def _completed(self, attempt: Attempt, handler: Handler, result: bytes) -> Completed:
        """The result with a note of this attempt; as good as nothing where no result is kept."""
        delivery = attempt.held.delivery
        alone = delivery.overrides is None
        retention_ms = handler.retention_ms if alone else failures.retention_ms(handler, delivery)
        if not retention_ms:
            return _FORGOTTEN
        now = time.monotonic()
        started = attempt.started or now
        started_ms = int((started + self._clocks.offset(delivery.shard)) * 1000)
        run_ms = int((now - started) * 1000)
        return Completed(envelope.keep(result, delivery, self._mark, started_ms, run_ms), retention_ms)

    def _early(self, attempt: Attempt) -> Outcome | None:
        """The outcome of a delivery that is not to be started at all."""
        if attempt.stop == "cancel":
            return Cancelled(started=False)
        if attempt.stop == "shutdown" or self.stopping:
            return HandedBack()
        expires = attempt.held.delivery.expires_ms
        late = expires is not None and self._clocks.now_ms(attempt.held.delivery.shard) >= expires
        return Expired() if late else None

    async def _apart(
        self, attempt: Attempt, handler: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bytes:
        if handler.options.executor == "process":
            return await self._in_process(attempt, handler)
        self._taken(attempt)
        return await self._suspects.run(attempt, handler, lambda: self._here(attempt, handler, args, kwargs))

    async def _here(
        self, attempt: Attempt, handler: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bytes:
        context = self._begin(attempt, handler)
        token = CURRENT.set(context)
        try:
            if handler.around:
                return await self._within(handler, context, args, kwargs)
            if handler.is_async:
                value = await handler.function(*args, **kwargs)
                return b"" if value is None else handler.encode_result(value)
            return await self._threads.run(handler, args, kwargs)
        finally:
            CURRENT.reset(token)

    async def _within(
        self, handler: Handler, context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bytes:
        """The handler within the hooks of its app: async ones here, sync ones where it runs."""
        managers = [around(context) for around in handler.around]
        if handler.is_async:

            async def awaited() -> bytes:
                return handler.encode_result(await handler.function(*args, **kwargs))

            return await await_within(managers, awaited)
        outer = [one for one in managers if isinstance(one, AbstractAsyncContextManager)]
        inner = [one for one in managers if not isinstance(one, AbstractAsyncContextManager)]
        return await await_within(outer, lambda: self._threads.run(handler, args, kwargs, inner))

    async def _in_process(self, attempt: Attempt, handler: Handler) -> bytes:
        self._taken(attempt)
        one = await self._processes.acquire(handler)
        if attempt.stop is not None:
            self._processes.release(one)
            raise asyncio.CancelledError
        attempt.child = one
        return await self._processes.run(one, handler, attempt.held.delivery, self._begin(attempt, handler))

    def _begin(self, attempt: Attempt, handler: Handler) -> Context:
        delivery = attempt.held.delivery
        attempt.started = now = time.monotonic()
        # Nearly always the policy alone counts, and each of these questions would cost a call.
        alone = delivery.overrides is None
        limit = handler.options.timeout if alone else failures.timeout(handler, delivery)
        if limit is not None:
            attempt.deadline = now + limit
        self._taken(attempt)
        if self._observers.began is not None:
            self._observers.began(delivery, self._clocks.now_ms(delivery.shard))
        attempt.context = Context(
            delivery,
            handler.options.max_attempts if alone else failures.max_attempts(handler, delivery),
            None if limit is None else now + limit + self._clocks.offset(delivery.shard),
            self._worker,
        )
        return attempt.context

    def failed(self, attempt: Attempt, handler: Handler, error: BaseException) -> Outcome | None:
        """The outcome of an attempt that ended with an exception, ours or the handler's."""
        if attempt.stop == "fenced":
            return None
        cancelled = all(isinstance(one, asyncio.CancelledError) for one in retry.leaves(error))
        if cancelled and attempt.stop == "cancel":
            return Cancelled(started=attempt.started is not None)
        # Without a reason of ours somebody ends the whole event loop, and the handler with it.
        if cancelled and (attempt.stop == "shutdown" or (attempt.stop is None and self._closing())):
            return HandedBack(started=attempt.started is not None)
        if attempt.stop == "timeout":
            error = failures.timed_out(failures.timeout(handler, attempt.held.delivery), attempt.stood, error)
        return self._judged(attempt, handler, error)

    def of_another(self, attempt: Attempt, held: Held, outcome: Outcome | None) -> Outcome | None:
        """The outcome of another delivery of an attempt: the same, but a failure counts by its own policy."""
        report = attempt.held.report
        if report is None or not isinstance(outcome, Retried | Died):
            return outcome
        handler = self._registry.handlers[held.delivery.type]
        return self._judged_one(attempt, held, handler, report.error)

    def _judged(
        self, attempt: Attempt, handler: Handler, error: BaseException, *, started: bool = True
    ) -> Retried | Died | HandedBack:
        return self._judged_one(attempt, attempt.held, handler, error, started=started)

    def _judged_one(
        self, attempt: Attempt, held: Held, handler: Handler, error: BaseException, *, started: bool = True
    ) -> Retried | Died | HandedBack:
        delivery = held.delivery
        failed = (
            error.failure if isinstance(error, FailedInChild) else failures.failure(handler, delivery, error)
        )
        if isinstance(failed.decision, retry.Wait):
            held.effects = failures.effects(delivery, failed)
            return failures.outcome(delivery, failed, worker=self._worker, now_ms=0)
        self._counters.failed(self._registry.name, delivery.type, failed.error)
        if self._observers.failed is not None:
            self._observers.failed(delivery, failed.error, failed.message, failed.traceback)
        now_ms = self._clocks.now_ms(delivery.shard)
        run_ms = None if attempt.started is None else round((time.monotonic() - attempt.started) * 1000)
        held.report = Report(failed, failures.max_attempts(handler, delivery), error, trace_id())
        return failures.outcome(
            delivery, failed, worker=self._worker, now_ms=now_ms, started=started, run_ms=run_ms,
            pipeline=handler.pipeline,
        )  # fmt: skip

    def unforeseen(self, attempt: Attempt, error: BaseException) -> Outcome | None:
        """The outcome where something else than the handler raised: whatever happens, there is one."""
        handler, delivery = self._registry.handlers[attempt.held.delivery.type], attempt.held.delivery
        try:
            return self.failed(attempt, handler, error)
        except BaseException:  # noqa: BLE001 - memory is used up, or the log cannot be written
            if attempt.stop == "fenced":
                return None
            started = attempt.started is not None
            if delivery.attempt >= failures.max_attempts(handler, delivery):
                return Died("attempts", delivery.failures, started)
            return Retried(round(failures.AT_LEAST * 1000), delivery.failures)


def _undecoded(error: BaseException) -> DecodeError:
    if isinstance(error, DecodeError):
        return error
    found = DecodeError(f"{failures.name(error)}: {failures.text(error)}", reason="arguments")
    found.__cause__ = error
    return found
