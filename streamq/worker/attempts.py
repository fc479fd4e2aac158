"""Delivery -> outcome: one attempt, from its payload to what becomes of the task.

Owns the call of the handler and what its end means. Never raises: whatever a handler does is an outcome.
Knows no slot and writes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from streamq import codec, retry
from streamq.app import Handler, Registry
from streamq.context import CURRENT, Context
from streamq.errors import DecodeError
from streamq.model import Cancelled, Completed, Died, Expired, HandedBack, Outcome, Retried, name_of
from streamq.telemetry.sums import Sums
from streamq.telemetry.traces import Tracer, trace_id
from streamq.worker import verdict
from streamq.worker.clocks import Clocks
from streamq.worker.executors import FailedInChild, Processes, Threads
from streamq.worker.holdings import Held, Report
from streamq.worker.suspects import Company, Suspects

_FORGOTTEN: Final = Completed()


class Attempts:
    """Runs attempts of one worker. `taken` is told of each whose handler is about to be called, when its
    deadline is known; `began`, where set, as well. `closing`: whether the event loop itself is ended."""

    def __init__(
        self,
        registry: Registry,
        worker: str,
        threads: Threads,
        processes: Processes,
        clocks: Clocks,
        sums: Sums,
        taken: Callable[[Held], None],
        closing: Callable[[], bool],
        company: Company,
        apart: Processes | None,
    ) -> None:
        self._registry = registry
        self._tracer = registry.tracer
        self._worker = worker
        self._mark = codec.worker_mark(worker)
        self.threads = threads
        self.processes = processes
        self._clocks = clocks
        self._sums = sums
        self._taken = taken
        self.closing = closing
        self.suspects = Suspects(company, apart, self._begin)
        self.stopping = False
        self.began: Callable[[Held], None] | None = None

    async def traced(self, tracer: Tracer, held: Held) -> Outcome | None:
        """An attempt with a span, which is current in the handler and in what is logged of its end."""
        with tracer.processing(held.delivery, self._worker) as span:
            outcome = await self.run(held)
            span.set_attribute("streamq.task.outcome", "lost" if outcome is None else name_of(outcome))
            return outcome

    async def run(self, held: Held) -> Outcome | None:
        """decode -> find the handler -> call it under its timeout -> decide."""
        delivery = held.delivery
        if held.stop is not None or self.stopping or delivery.expires_ms is not None:
            if held.stop == "lost":
                return None
            early = self._early(held)
            if early is not None:
                return early
        handler = self._registry.handlers[delivery.type]
        try:
            args, kwargs = handler.arguments(delivery.payload)
        except BaseException as error:  # noqa: BLE001 - also what a user's model raises
            return self._judged(held, handler, _undecoded(error), started=False)
        try:
            result = await self._call(held, handler, args, kwargs)
        except BaseException as error:  # SystemExit in a handler must not end the worker
            if isinstance(error, GeneratorExit) and asyncio._get_running_loop() is None:  # noqa: SLF001
                raise  # the loop is gone, and what ran in it is thrown away
            return self.failed(held, handler, error)
        return (
            self._completed(held, handler, result) if held.stop is None else self._late(held, handler, result)
        )

    def _late(self, held: Held, handler: Handler, result: bytes) -> Outcome | None:
        """The outcome of a handler that returned although it had been told to stop."""
        if held.stop == "lost":
            return None
        if held.stop == "timeout":
            return self.failed(held, handler, asyncio.CancelledError())
        return self._completed(held, handler, result)

    def _completed(self, held: Held, handler: Handler, result: bytes) -> Completed:
        """The result with a note of this attempt; as good as nothing where no result is kept."""
        delivery = held.delivery
        retention_ms = verdict.retention_ms(handler, delivery)
        if not retention_ms:
            return _FORGOTTEN
        now = time.monotonic()
        started = held.started or now
        started_ms = int((started + self._clocks.offset(delivery.shard)) * 1000)
        run_ms = int((now - started) * 1000)
        return Completed(codec.keep(result, delivery, self._mark, started_ms, run_ms), retention_ms)

    def _early(self, held: Held) -> Outcome | None:
        """The outcome of a delivery that is not to be started at all."""
        if held.stop == "cancel":
            return Cancelled(started=False)
        if held.stop == "shutdown" or self.stopping:
            return HandedBack()
        expires = held.delivery.expires_ms
        late = expires is not None and self._clocks.now_ms(held.delivery.shard) >= expires
        return Expired() if late else None

    async def _call(
        self, held: Held, handler: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bytes:
        if handler.options.executor == "process":
            return await self._in_process(held, handler)
        if held.delivery.suspect:
            self._taken(held)
            return await self.suspects.run(held, handler, lambda: self._here(held, handler, args, kwargs))
        return await self._here(held, handler, args, kwargs)

    async def _here(
        self, held: Held, handler: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bytes:
        token = CURRENT.set(self._begin(held, handler))
        try:
            if handler.is_async:
                value = await handler.function(*args, **kwargs)
                return b"" if value is None else handler.encode_result(value)
            return await self.threads.run(handler, args, kwargs)
        finally:
            CURRENT.reset(token)

    async def _in_process(self, held: Held, handler: Handler) -> bytes:
        self._taken(held)
        one = await self.processes.acquire(handler)
        if held.stop is not None:
            self.processes.release(one)
            raise asyncio.CancelledError
        held.child = one
        return await self.processes.run(one, handler, held.delivery, self._begin(held, handler))

    def _begin(self, held: Held, handler: Handler) -> Context:
        delivery = held.delivery
        held.started = now = time.monotonic()
        limit = verdict.timeout(handler, delivery)
        if limit is not None:
            held.deadline = now + limit
        self._taken(held)
        if self.began is not None:
            self.began(held)
        held.context = Context(
            delivery,
            verdict.max_attempts(handler, delivery),
            None if limit is None else now + limit + self._clocks.offset(delivery.shard),
            self._worker,
        )
        return held.context

    def failed(self, held: Held, handler: Handler, error: BaseException) -> Outcome | None:
        """The outcome of an attempt that ended with an exception, ours or the handler's."""
        if held.stop == "lost":
            return None
        cancelled = all(isinstance(one, asyncio.CancelledError) for one in retry.leaves(error))
        if cancelled and held.stop == "cancel":
            return Cancelled(started=held.started is not None)
        # Without a reason of ours somebody ends the whole event loop, and the handler with it.
        if cancelled and (held.stop == "shutdown" or (held.stop is None and self.closing())):
            return HandedBack(started=held.started is not None)
        if held.stop == "timeout":
            error = verdict.timed_out(verdict.timeout(handler, held.delivery), held.stood, error)
        return self._judged(held, handler, error)

    def _judged(
        self, held: Held, handler: Handler, error: BaseException, *, started: bool = True
    ) -> Retried | Died:
        delivery = held.delivery
        failed = (
            error.failure if isinstance(error, FailedInChild) else verdict.failure(handler, delivery, error)
        )
        self._note(delivery.type, failed)
        now_ms = self._clocks.now_ms(delivery.shard)
        run_ms = None if held.started is None else round((time.monotonic() - held.started) * 1000)
        held.report = Report(failed, verdict.max_attempts(handler, delivery), error, trace_id())
        return verdict.outcome(
            delivery, failed, worker=self._worker, now_ms=now_ms, started=started, run_ms=run_ms,
            pipeline=handler.pipeline,
        )  # fmt: skip

    def unforeseen(self, held: Held, error: BaseException) -> Outcome | None:
        """The outcome where something else than the handler raised: whatever happens, there is one."""
        handler, delivery = self._registry.handlers[held.delivery.type], held.delivery
        try:
            return self.failed(held, handler, error)
        except BaseException:  # noqa: BLE001 - memory is used up, or the log cannot be written
            if held.stop == "lost":
                return None
            started = held.started is not None
            if delivery.attempt >= verdict.max_attempts(handler, delivery):
                return Died("attempts", delivery.failures, started)
            return Retried(round(verdict.AT_LEAST * 1000), delivery.failures)

    def _note(self, task_type: str, failed: verdict.Failure) -> None:
        self._sums.failed(self._registry.name, task_type, failed.error)
        if self._tracer is not None:
            self._tracer.failed(failed.error, failed.message, failed.traceback)


def _undecoded(error: BaseException) -> DecodeError:
    if isinstance(error, DecodeError):
        return error
    found = DecodeError(f"{verdict.name(error)}: {verdict.text(error)}", reason="arguments")
    found.__cause__ = error
    return found
