"""(delivery, how its attempt ended) -> outcome. Pure: used in the worker and in its child processes.

Owns what is recorded of a failure and which outcome follows from it.
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
from streamq.model.effect import Effect, Hold
from streamq.model.outcome import Died, HandedBack, Retried
from streamq.payloads.pipeline import Pipeline
from streamq.registry.handler import Handler

_HERE: Final = str(Path(__file__).parent)
AT_LEAST: Final = 1.0
"""Seconds until the next attempt, where nothing else can be said."""
TRACEBACK_LIMIT: Final = 16_384
"""Characters of a traceback that are worked with: its tail tells most."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is kept of an exception, and what is to become of the task. frame: where it was raised."""

    error: str
    message: str
    traceback: str
    decision: retry.Again | retry.Wait | retry.GiveUp
    frame: Frame | None = None


def max_attempts(handler: Handler, delivery: Delivery) -> int:
    overrides = delivery.overrides
    if overrides is not None and overrides.max_attempts is not None:
        return overrides.max_attempts
    return handler.options.max_attempts


def timeout(handler: Handler, delivery: Delivery) -> float | None:
    overrides = delivery.overrides
    if overrides is not None and overrides.timeout is not None:
        return overrides.timeout
    return handler.options.timeout


def retention_ms(handler: Handler, delivery: Delivery) -> int:
    """How long the result is kept; 0: not at all."""
    overrides = delivery.overrides
    if overrides is None or overrides.retention is None:
        return handler.retention_ms
    return round(overrides.retention * 1000)


def failure(handler: Handler, delivery: Delivery, error: BaseException) -> Failure:
    """Judge an exception that came out of a handler, or kept it from being called. Never raises, whatever
    the exception's own methods do."""
    return Failure(
        error=name(error),
        message=text(error),
        traceback=_traceback(error),
        decision=_decision(handler, delivery, error),
        frame=_frame(error),
    )


def _decision(
    handler: Handler, delivery: Delivery, error: BaseException
) -> retry.Again | retry.Wait | retry.GiveUp:
    most = max_attempts(handler, delivery)
    try:
        if isinstance(error, DecodeError):
            return retry.GiveUp(error.reason)
        if isinstance(error, PayloadError):
            # The handler has done its work; doing it again would not make its result fit into JSON.
            return retry.GiveUp("result")
        return retry.decide(handler.options, most, delivery.attempt, error)
    except BaseException as broken:  # noqa: BLE001 - the user's classes judge whether it is one of theirs
        if delivery.attempt >= most:
            return retry.GiveUp("attempts")
        return retry.Again(AT_LEAST, f"what its policy says, which raised {type(broken).__name__},")


def timed_out(limit: float | None, stood: str, error: BaseException) -> AttemptTimeout:
    """The error of an attempt that was ended at its timeout. stood: where it stood then; error: what came
    out of it, which tells more than its cancellation where it failed while it ended."""
    said = f"the attempt ran longer than its timeout of {limit or 0:g} s"
    late = not isinstance(error, asyncio.CancelledError | AttemptTimeout)
    if late:
        said += f"; while it ended it raised {name(error)}: {text(error)}"
    found = AttemptTimeout(said)
    found.stood = stood
    found.__cause__ = error if late else None
    if not late and not stood:
        found.__traceback__ = error.__traceback__
    return found


def name(error: BaseException) -> str:
    """The name of an exception's class."""
    try:
        return str(type(error).__qualname__)
    except BaseException:  # noqa: BLE001 - the user's metaclass
        return "Exception"


def text(error: BaseException) -> str:
    """The message, no longer than is kept of it: it goes into the log as well."""
    try:
        return envelope.clean(str(error)[: envelope.MESSAGE_LIMIT])
    except BaseException:  # noqa: BLE001 - the user's __str__
        return "(its message cannot be shown)"


def _frame(error: BaseException) -> Frame | None:
    """The last of the user's own frames; of an attempt that was ended, where it stood."""
    try:
        if isinstance(error, AttemptTimeout):
            return raised_at(_users_part(error.__cause__ or error)) or of_stack(error.stood)
        if isinstance(error, DecodeError) and error.__cause__ is None:
            return None
        return raised_at(_users_part(error))
    except BaseException:  # noqa: BLE001 - the user's exception again
        return None


def _traceback(error: BaseException) -> str:
    try:
        stood = error.stood if isinstance(error, AttemptTimeout) else ""
        # An attempt that was never called has no frames of its own worth keeping.
        if isinstance(error, DecodeError) and error.__cause__ is None:
            return ""
        if isinstance(error, AttemptTimeout) and error.__cause__ is None and error.__traceback__ is None:
            return f"{stood}{name(error)}: {text(error)}\n" if stood else ""
        parts = traceback.format_exception(type(error), error, _users_part(error), limit=-20)
        found = "".join(part[: 4 * envelope.MESSAGE_LIMIT] for part in parts)
        lines = (line[: envelope.MESSAGE_LIMIT] for line in found[-4 * TRACEBACK_LIMIT :].split("\n"))
        return envelope.clean((stood + "\n" if stood else "") + "\n".join(lines)[-TRACEBACK_LIMIT:])
    except BaseException:  # noqa: BLE001 - the user's exception again, or one too deep to be shown
        return ""


def outcome(
    delivery: Delivery,
    failed: Failure,
    *,
    worker: str,
    now_ms: int,
    started: bool = True,
    run_ms: int | None = None,
    pipeline: Pipeline | None = None,
) -> Retried | Died | HandedBack:
    """The failure as the outcome of the delivery: run again, or dead. run_ms: how long the handler ran,
    None where it was not called. pipeline: what the failure's texts go through."""
    failures = envelope.add_failure(
        delivery.failures,
        attempt=delivery.attempt,
        at_ms=now_ms,
        worker=worker,
        error=failed.error,
        message=failed.message,
        traceback=failed.traceback,
        wait_ms=None if run_ms is None else _waited(delivery, now_ms - run_ms),
        run_ms=run_ms,
        frame=None if failed.frame is None else failed.frame.as_stored(),
        pipeline=pipeline,
    )
    match failed.decision:
        case retry.Again(delay):
            return Retried(round(delay * 1000), failures)
        case retry.Wait(delay):
            # Of a task with a lane its lane is held instead: see `effects`.
            return HandedBack(True, 0 if delivery.claims else max(1, round(delay * 1000)))
        case retry.GiveUp(reason):
            return Died(reason, failures, started, fingerprint(failed.error, failed.frame))


def effects(delivery: Delivery, failed: Failure) -> tuple[Effect, ...]:
    """What the end of the attempt does besides."""
    if delivery.claims and isinstance(failed.decision, retry.Wait):
        return (Hold(max(1, round(failed.decision.delay * 1000))),)
    return ()


def _waited(delivery: Delivery, started_ms: int) -> int:
    """Ms from the moment at which the task became ready, which its place names."""
    return max(0, started_ms - int(delivery.place[1:].partition("-")[0]))


def _users_part(error: BaseException) -> TracebackType | None:
    """The traceback from where we called the handler on: our own frames tell its author nothing."""
    ours, step = error.__traceback__, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename.startswith(_HERE):
            ours = step.tb_next or ours
        step = step.tb_next
    return ours
