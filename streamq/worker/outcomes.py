"""Decides the outcome of an attempt: of what its handler returned or raised, or why it was stopped.

Owns the outcomes. Never raises. Must not run a handler or write to Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from streamq import retry, stored_result
from streamq.errors import DecodeError, Interrupted, UsageError
from streamq.model.effect import Continued, Effect, Follow, FollowUp
from streamq.model.outcome import Cancelled, Completed, Died, HandedBack, Outcome, Retried
from streamq.registry.handler import Handler
from streamq.registry.registry import Registry
from streamq.telemetry.counters import Counters
from streamq.telemetry.traces import trace_id
from streamq.worker import failures
from streamq.worker.attempt import Attempt
from streamq.worker.executors import FailedInChild
from streamq.worker.flow_nodes import grown, of_node
from streamq.worker.in_flight import FailedAttempt, Held
from streamq.worker.observers import Observers
from streamq.worker.server_clocks import ServerClocks
from streamq.worker.too_new import TooNewTasks

NO_RESULT: Final = Completed()


class Outcomes:
    """The outcomes of one worker's attempts. `closing`: returns whether the event loop is being closed."""

    def __init__(
        self,
        registry: Registry,
        worker: str,
        clocks: ServerClocks,
        counters: Counters,
        observers: Observers,
        closing: Callable[[], bool],
        too_new: TooNewTasks,
    ) -> None:
        self._registry, self._handlers = registry, registry.handlers
        self._worker = worker
        self._mark = stored_result.worker_mark(worker)
        self._clocks = clocks
        self._counters = counters
        self._observers = observers
        self._closing = closing
        self._too_new = too_new

    def completed_late(self, attempt: Attempt, handler: Handler, result: bytes) -> Outcome | None:
        """Return the outcome of a handler that returned after it was asked to stop."""
        if attempt.stop == "fenced":
            return None
        if attempt.stop == "timeout":
            return self.failed(attempt, handler, asyncio.CancelledError())
        return self.completed(attempt, handler, result)

    def _continued(
        self, attempt: Attempt, handler: Handler, follow_ups: list[Any], result: bytes
    ) -> Outcome | None:
        """Return the outcome of an attempt that asked for a new run."""
        if result:
            error = UsageError("a new run was asked for: return what continue_as_new() has returned")
            return self.failed(attempt, handler, error)
        if attempt.stop == "cancel":
            return Cancelled()
        new = next(one for one in follow_ups if isinstance(one, Continued))
        more = tuple(one for one in follow_ups if isinstance(one, FollowUp))
        attempt.held.effects = (new, Follow(more)) if more else (new,)
        delay_ms = new.task.due or 0
        if new.task.absolute:
            delay_ms -= self._clocks.now_ms(attempt.held.delivery.shard)
        return HandedBack(started=True, delay_ms=max(0, delay_ms))

    def completed(self, attempt: Attempt, handler: Handler, result: bytes) -> Outcome | None:
        """Return the outcome with the result and the attempt's times; empty if no result is kept."""
        delivery, context = attempt.held.delivery, attempt.context
        follow_ups = None
        if context is not None:
            context._ended = True  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001 - `end`, a call less
            follow_ups = context._follow_ups  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        plain = delivery.overrides is None
        retention_ms = handler.retention_ms if plain else failures.retention_ms(handler, delivery)
        growth = b""
        if follow_ups or delivery.node:
            if any(isinstance(one, Continued) for one in follow_ups or ()):
                return self._continued(attempt, handler, follow_ups or [], result)
            result, growth = _with_effects(attempt.held, handler, result, follow_ups or [])
        if not retention_ms and not delivery.node:
            return NO_RESULT
        if attempt.stored is not None:
            result, blob = attempt.stored
            if blob is not None:
                attempt.held.effects = (*attempt.held.effects, blob)
        elif handler.read is not None:
            result = handler.stored_result(result, delivery)
        return Completed(self.packed(attempt, result) + growth, retention_ms)

    def packed(self, attempt: Attempt, result: bytes) -> bytes:
        """Return a result with the attempt's times, as it is stored."""
        delivery, now = attempt.held.delivery, time.monotonic()
        started, offset = attempt.started or now, attempt.offset
        if offset is None:
            offset = self._clocks.offset(delivery.shard)
        started_ms, run_ms = int((started + offset) * 1000), int((now - started) * 1000)
        return stored_result.pack_result(result, delivery, self._mark, started_ms, run_ms)

    def failed(self, attempt: Attempt, handler: Handler, error: BaseException) -> Outcome | None:
        """Return the outcome of an attempt that ended with an exception; None if it is fenced."""
        if attempt.stop == "fenced":
            return None
        cancelled = all(isinstance(one, asyncio.CancelledError) for one in retry.leaves(error))
        if cancelled and attempt.stop == "cancel":
            return Cancelled(started=attempt.started is not None)
        # Cancelled without `stop`: if the event loop is being closed, that cancelled the handler.
        if cancelled and (attempt.stop == "shutdown" or (attempt.stop is None and self._closing())):
            return HandedBack(started=attempt.started is not None)
        if all(isinstance(one, Interrupted) for one in retry.leaves(error)):
            return HandedBack(started=True)
        if attempt.stop == "timeout":
            error = failures.timed_out(failures.timeout(handler, attempt.held.delivery), attempt.stack, error)
        return self._failure_of(attempt, attempt.held, handler, error)

    def outcome_for(self, attempt: Attempt, held: Held, outcome: Outcome | None) -> Outcome | None:
        """Return the outcome of a further delivery of a batch: by the verdict on its item; else that of the
        first one, but a failure is judged by the delivery's own policy."""
        handler = self._handlers[held.delivery.type]
        verdict = attempt.verdicts.get(attempt.all.index(held))
        if isinstance(verdict, BaseException):
            return self._failure_of(attempt, held, handler, verdict)
        if verdict is not None and attempt.stop != "timeout":
            one = Attempt(held)
            one.started = attempt.started
            return self.completed(one, handler, verdict)
        failed = attempt.held.failed
        if failed is None or not isinstance(outcome, Retried | Died):
            return outcome
        return self._failure_of(attempt, held, handler, failed.error)

    def unread(self, attempt: Attempt, handler: Handler, error: BaseException) -> Outcome:
        """Return the outcome of a payload that cannot be read, by this or any other worker."""
        return self._failure_of(attempt, attempt.held, handler, _decode_error(error), started=False)

    def _failure_of(
        self, attempt: Attempt, held: Held, handler: Handler, error: BaseException, *, started: bool = True
    ) -> Retried | Died | HandedBack:
        """Record the failure of one delivery and return its outcome."""
        delivery = held.delivery
        failure = (
            error.failure if isinstance(error, FailedInChild) else failures.failure(handler, delivery, error)
        )
        if failure.unread is not None and (later := self._too_new.unreadable(delivery, failure.unread)):
            return later._replace(started=started)
        if isinstance(failure.decision, retry.Wait | retry.Sleep):
            held.effects = failures.effects(delivery, failure)
            return failures.outcome(delivery, failure, worker=self._worker, now_ms=0)
        self._counters.count_exception(self._registry.name, delivery.type, failure.error)
        if self._observers.failed is not None:
            self._observers.failed(delivery, failure.error, failure.message, failure.traceback)
        now_ms = self._clocks.now_ms(delivery.shard)
        run_ms = None if attempt.started is None else round((time.monotonic() - attempt.started) * 1000)
        held.failed = FailedAttempt(failure, failures.max_attempts(handler, delivery), error, trace_id())
        return failures.outcome(
            delivery, failure, worker=self._worker, now_ms=now_ms, started=started, run_ms=run_ms,
            sealed=failures.sealing(handler, delivery),
        )  # fmt: skip

    def internal_error(self, attempt: Attempt, error: BaseException) -> Outcome | None:
        """Return the outcome of an attempt in which streamq itself raised: there is always one."""
        handler, delivery = self._handlers[attempt.held.delivery.type], attempt.held.delivery
        try:
            return self.failed(attempt, handler, error)
        except BaseException:  # noqa: BLE001 - such as no memory left, or a log that cannot be written
            if attempt.stop == "fenced":
                return None
            started = attempt.started is not None
            if delivery.attempt >= failures.max_attempts(handler, delivery):
                return Died("attempts", delivery.failures, started)
            return Retried(round(failures.AT_LEAST * 1000), delivery.failures)


def _with_effects(
    held: Held, handler: Handler, result: bytes, follow_ups: list[object]
) -> tuple[bytes, bytes]:
    """Note what else the settlement does: write follow-ups, or keep a result for a flow. Return the result,
    and the children of a flow's node as they are stored behind it."""
    effects: tuple[Effect, ...] = ()
    growth = b""
    if held.delivery.node:
        result, growth = grown(handler, result, follow_ups)
        effects = of_node(held.delivery, growth, expanded=handler.expands)
    tasks = tuple(one for one in follow_ups if isinstance(one, FollowUp))
    held.effects = (Follow(tasks), *effects) if tasks else effects
    return result, growth if effects else b""


def _decode_error(error: BaseException) -> DecodeError:
    if isinstance(error, DecodeError):
        return error
    found = DecodeError(f"{failures.class_name(error)}: {failures.message(error)}", reason="arguments")
    found.__cause__ = error
    return found
