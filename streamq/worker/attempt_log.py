"""What the log says of attempts: that they begin, how they ended, and why they failed.

Owns the lines and the `logging` records about attempts. It is told of an end when the server has stored it,
so what is said is true: a delivery that was lost meanwhile, or could not be settled, is no retry and no dead
letter. Decides nothing. Lines about attempts that went well are for debugging only.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from streamq import retry
from streamq.model.delivery import Delivery
from streamq.model.outcome import Died, Outcome, Retried, name_of
from streamq.telemetry import logs
from streamq.worker.in_flight import Held, Report

STAND_INS: dict[str, type[BaseException]] = {}
"""Exceptions for `logging` records of what was raised in another process, by name."""
_MOST_STAND_INS = 200


class AttemptLog:
    """Of one worker. As an observer it is told of attempts while it is `active`: somebody reads what is said
    at debug level."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._log = logs.get_logger(worker=worker)
        self.active: bool = logs.debug_enabled()

    def attempt_began(self, task: Delivery, _at_ms: int) -> None:
        """A handler is about to be called."""
        lost = {"lost": task.lost} if task.lost else {}
        self._log.debug("task.started", **_about(task), **lost)

    def attempt_stored(self, task: Delivery, outcome: Outcome, seconds: float | None, _at_ms: int) -> None:
        """The server has stored this end. Of a failure `failed` says more."""
        if not isinstance(outcome, Retried | Died):
            kept = {} if seconds is None else {"seconds": round(seconds, 6)}
            self._log.debug(f"task.{name_of(outcome)}", **_about(task), **kept)

    def failed(self, held: Held, outcome: Outcome) -> None:
        """The server has stored the end of an attempt that failed."""
        if held.report is not None:
            with suppress(BaseException):  # a log that raises keeps nothing from being settled
                self._failed(held, outcome, held.report)
            held.report = None

    def lost(self, held: Held, outcome: Outcome) -> None:
        """The delivery was no longer ours: what became of this attempt counts for nothing."""
        with suppress(BaseException):  # a log that raises keeps nothing from being settled
            self._lost(held, outcome)

    def _lost(self, held: Held, outcome: Outcome) -> None:
        why = {} if held.report is None else {"error": held.report.failure.error}
        self._log.warning("task.lease_lost", task=str(held.delivery.id), outcome=name_of(outcome), **why)

    def _failed(self, held: Held, outcome: Outcome, report: Report) -> None:
        failure = report.failure
        again = isinstance(outcome, Retried)
        about = _about(held.delivery)
        if isinstance(failure.decision, retry.Again) and failure.decision.instead_of:
            self._log.warning(
                "task.wait_invalid", **about, asked=failure.decision.instead_of,
                delay_ms=outcome.delay_ms if isinstance(outcome, Retried) else None,
                fix="a wait is a number of seconds from 0 on: the default was taken instead",
            )  # fmt: skip
        place = failure.frame
        logs.log_failure(
            self._log,
            _event(held, outcome),
            final=not again,
            exception=_exception(report),
            traceback=failure.traceback,
            fields={
                **about,
                "error": failure.error,
                "message": failure.message,
                **({} if place is None else {"at": f"{place.file}:{place.line}"}),
                **_became(outcome),
                "more": f"streamq task show {held.delivery.id}",
                **({"trace_id": report.trace} if report.trace else {}),
            },
            worker=self._worker,
            attempts=f"{held.delivery.attempt} of {report.max_attempts}",
        )


def _about(task: Delivery) -> dict[str, Any]:
    return {"task": str(task.id), "type": task.type, "attempt": task.attempt}


def _event(held: Held, outcome: Outcome) -> str:
    if isinstance(outcome, Retried):
        return "task.retry"
    return "task.dead" if held.delivery.attempt else "task.undecodable"


def _became(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Retried):
        return {"delay_ms": outcome.delay_ms}
    return {"reason": outcome.reason} if isinstance(outcome, Died) else {}


def _exception(report: Report) -> BaseException:
    """What was raised; of another process, where it cannot come from, one with its name and its traceback."""
    failure = report.failure
    if type(report.error).__name__ != "FailedInChild":
        return report.error
    if len(STAND_INS) > _MOST_STAND_INS:
        STAND_INS.clear()
    kind = STAND_INS.setdefault(failure.error, type(failure.error, (logs.RemoteError,), {}))
    found = kind(failure.message)
    found.__cause__ = logs.RemoteError(f"\n\n{failure.traceback}")
    return found
