"""Maps an exception to a failure, and a failure to an outcome. Pure: also used in child processes.

Owns what is recorded of a failure and the outcome that follows from it. Must not do I/O or read a clock.
"""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from streamq import envelope, retry
from streamq.errors import AttemptTimeout, DecodeError, PayloadError
from streamq.fingerprint import Frame, fingerprint, of_stack, raised_at
from streamq.model.delivery import Delivery
from streamq.model.effect import Effect, Hold, Suspend
from streamq.model.outcome import Died, HandedBack, Retried
from streamq.payloads.pipeline import Pipeline
from streamq.payloads.stage import About, Elsewhere
from streamq.registry.handler import Handler

_OURS: Final = tuple(str(Path(__file__).parents[1] / name) for name in ("worker", "django"))
"""The packages whose frames stand between the worker and the user's code."""
AT_LEAST: Final = 1.0
"""Seconds until the next attempt if the policy cannot be evaluated."""
TRACEBACK_LIMIT: Final = 16_384
"""Characters of a traceback that are kept: the last ones, which are the most useful."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The record of an exception, and whether the task is retried. frame: where it was raised. path: of its
    class, as `module.Class`; empty for one that Python has built in. unread: the error of a memo or signal
    that another worker can read."""

    error: str
    message: str
    traceback: str
    decision: retry.Again | retry.Wait | retry.Sleep | retry.GiveUp
    frame: Frame | None = None
    path: str = ""
    unread: Elsewhere | None = None


def max_attempts(handler: Handler, delivery: Delivery) -> int:
    """Return the limit for this delivery: its override, or else the policy."""
    overrides = delivery.overrides
    if overrides is not None and overrides.max_attempts is not None:
        return overrides.max_attempts
    return handler.options.max_attempts


def timeout(handler: Handler, delivery: Delivery) -> float | None:
    """Return the timeout for this delivery in seconds; None: no timeout."""
    overrides = delivery.overrides
    if overrides is not None and overrides.timeout is not None:
        return overrides.timeout
    return handler.options.timeout


def retention_ms(handler: Handler, delivery: Delivery) -> int:
    """Return how long the result is kept; 0: it is not kept."""
    overrides = delivery.overrides
    if overrides is None or overrides.retention is None:
        return handler.retention_ms
    return round(overrides.retention * 1000)


def sealing(handler: Handler, delivery: Delivery) -> tuple[Pipeline, About] | None:
    """Return how the texts of a failure are stored; None: as they are."""
    if handler.pipeline is None:
        return None
    return handler.pipeline, About(handler.app, delivery.type, "failure")


def failure(handler: Handler, delivery: Delivery, error: BaseException) -> Failure:
    """Return the failure for an exception that a handler raised, or that prevented its call. Never raises,
    whatever the exception's own methods do."""
    return Failure(
        error=class_name(error),
        message=message(error),
        traceback=_traceback(error),
        decision=_decision(handler, delivery, error),
        frame=_frame(error),
        path=class_path(error),
        unread=_unread(error),
    )


def _unread(error: BaseException) -> Elsewhere | None:
    """Return the error of a stored value that only this worker cannot read, if the attempt met nothing
    else."""
    try:
        met = list(retry.leaves(error))
    except BaseException:  # noqa: BLE001 - the user's exception may raise in any method
        return None
    unread = [one for one in met if isinstance(one, Elsewhere)]
    return unread[0] if unread and len(unread) == len(met) else None


def _decision(
    handler: Handler, delivery: Delivery, error: BaseException
) -> retry.Again | retry.Wait | retry.Sleep | retry.GiveUp:
    most = max_attempts(handler, delivery)
    try:
        if sleeps := retry.sleeping(error):
            return sleeps
        if isinstance(error, DecodeError):
            return retry.GiveUp(error.reason)
        if isinstance(error, PayloadError):
            # The handler has completed; another attempt would not make its result fit into JSON.
            return retry.GiveUp("result")
        return retry.decide(handler.options, most, delivery.attempt, error)
    except BaseException as broken:  # noqa: BLE001 - the user's classes take part in isinstance checks
        if delivery.attempt >= most:
            return retry.GiveUp("attempts")
        return retry.Again(AT_LEAST, f"the policy's wait (it raised {type(broken).__name__})")


def timed_out(limit: float | None, stack: str, error: BaseException) -> AttemptTimeout:
    """Return the error of an attempt that was stopped at its timeout. stack: the handler's stack then; error:
    what the handler raised, which is kept as the cause unless it is the cancellation itself."""
    about = f"the attempt ran longer than its timeout of {limit or 0:g} s"
    raised_late = not isinstance(error, asyncio.CancelledError | AttemptTimeout)
    if raised_late:
        about += f"; when it was stopped it raised {class_name(error)}: {message(error)}"
    found = AttemptTimeout(about)
    found.stack = stack
    found.__cause__ = error if raised_late else None
    if not raised_late and not stack:
        found.__traceback__ = error.__traceback__
    return found


def class_name(error: BaseException) -> str:
    """Return the qualified name of an exception's class."""
    try:
        return str(type(error).__qualname__)
    except BaseException:  # noqa: BLE001 - the user's metaclass
        return "Exception"


def class_path(error: BaseException) -> str:
    """Return the dotted path of an exception's class; empty for one of Python itself."""
    try:
        module, name = str(type(error).__module__), str(type(error).__qualname__)
    except BaseException:  # noqa: BLE001 - the user's metaclass
        return ""
    return "" if module == "builtins" else f"{module}.{name}"


def message(error: BaseException) -> str:
    """Return the message of an exception, cut to the length that is stored and logged."""
    try:
        return envelope.clean(str(error)[: envelope.MESSAGE_LIMIT])
    except BaseException:  # noqa: BLE001 - the user's __str__
        return "(the exception's __str__ raised)"


def _frame(error: BaseException) -> Frame | None:
    """Return the last frame of the user's code; for a timeout, the frame that was running then."""
    try:
        if isinstance(error, AttemptTimeout):
            return raised_at(_user_traceback(error.__cause__ or error)) or of_stack(error.stack)
        if isinstance(error, DecodeError) and error.__cause__ is None:
            return None
        return raised_at(_user_traceback(error))
    except BaseException:  # noqa: BLE001 - the user's exception may raise in any method
        return None


def _traceback(error: BaseException) -> str:
    try:
        stack = error.stack if isinstance(error, AttemptTimeout) else ""
        # If the handler was never called, there are no frames of the user's code.
        if isinstance(error, DecodeError) and error.__cause__ is None:
            return ""
        if isinstance(error, AttemptTimeout) and error.__cause__ is None and error.__traceback__ is None:
            return f"{stack}{class_name(error)}: {message(error)}\n" if stack else ""
        parts = traceback.format_exception(type(error), error, _user_traceback(error), limit=-20)
        found = "".join(part[: 4 * envelope.MESSAGE_LIMIT] for part in parts)
        lines = (line[: envelope.MESSAGE_LIMIT] for line in found[-4 * TRACEBACK_LIMIT :].split("\n"))
        return envelope.clean((stack + "\n" if stack else "") + "\n".join(lines)[-TRACEBACK_LIMIT:])
    except BaseException:  # noqa: BLE001 - the user's exception may raise in any method, or be too deep
        return ""


def outcome(
    delivery: Delivery,
    failure: Failure,
    *,
    worker: str,
    now_ms: int,
    started: bool = True,
    run_ms: int | None = None,
    sealed: tuple[Pipeline, About] | None = None,
) -> Retried | Died | HandedBack:
    """Return the outcome of a failed delivery: retried, dead, or handed back if it waits for a rate. run_ms:
    how long the handler ran; None if it was not called. sealed: how the failure's texts are stored."""
    failures = envelope.add_failure(
        delivery.failures,
        attempt=delivery.attempt,
        at_ms=now_ms,
        worker=worker,
        error=failure.error,
        message=failure.message,
        traceback=failure.traceback,
        wait_ms=None if run_ms is None else _wait_ms(delivery, now_ms - run_ms),
        run_ms=run_ms,
        frame=None if failure.frame is None else failure.frame.as_stored(),
        path=failure.path,
        sealed=sealed,
    )
    match failure.decision:
        case retry.Again(delay):
            return Retried(round(delay * 1000), failures)
        case retry.Wait(delay):
            # Of a task with a lane its lane is held instead: see `effects`.
            return HandedBack(True, 0 if delivery.claims else max(1, round(delay * 1000)))
        case retry.Sleep(delay):
            return HandedBack(True, max(1, round(delay * 1000)))
        case retry.GiveUp(reason):
            return Died(reason, failures, started, fingerprint(failure.error, failure.frame))


def effects(delivery: Delivery, failure: Failure) -> tuple[Effect, ...]:
    """Return what the end of the attempt changes besides the task."""
    if delivery.claims and isinstance(failure.decision, retry.Wait):
        return (Hold(max(1, round(failure.decision.delay * 1000))),)
    return (Suspend(failure.decision.memo),) if isinstance(failure.decision, retry.Sleep) else ()


def _wait_ms(delivery: Delivery, started_ms: int) -> int:
    """Return the time since the task became ready, which its place contains."""
    return max(0, started_ms - int(delivery.place[1:].partition("-")[0]))


def _user_traceback(error: BaseException) -> TracebackType | None:
    """Return the traceback from the handler on: streamq's own frames do not help the handler's author."""
    user, step = error.__traceback__, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename.startswith(_OURS):
            user = step.tb_next or user
        step = step.tb_next
    return user
