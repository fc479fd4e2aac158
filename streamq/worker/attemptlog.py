"""What the log says of attempts: that they begin, how they ended, and why they failed.

Owns the lines and the `logging` records about attempts. It is told of an end when the server has stored it,
so what is said is true: a delivery that was lost meanwhile, or could not be settled, is no retry and no dead
letter. Decides nothing. Lines about attempts that went well are for debugging only.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from streamq import retry, telemetry
from streamq.model import Died, Outcome, Retried, name_of
from streamq.telemetry import logs
from streamq.worker.holdings import Held, Report

STAND_INS: dict[str, type[BaseException]] = {}
"""Exceptions for `logging` records of what was raised in another process, by name."""
_MOST_STAND_INS = 200


class AttemptLog:
    """Of one worker. `chatty`: whether anybody reads what is said at debug level."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._log = telemetry.get_logger(worker=worker)
        self.chatty = logs.debugging()

    def began(self, held: Held) -> None:
        """A handler is about to be called."""
        lost = {"lost": held.delivery.lost} if held.delivery.lost else {}
        with suppress(BaseException):  # a log that raises fails no attempt
            self._log.debug("task.started", **self._about(held), **lost)

    def settled(self, held: Held, outcome: Outcome) -> None:
        """The server has stored this end."""
        if held.report is not None:
            self._failed(held, outcome, held.report)
            held.report = None
        elif self.chatty:
            kept = {} if held.ended is None or held.ended[1] is None else {"seconds": held.ended[1]}
            self._log.debug(f"task.{name_of(outcome)}", **self._about(held), **kept)

    def lost(self, held: Held, outcome: Outcome) -> None:
        """The delivery was no longer ours: what became of this attempt counts for nothing."""
        with suppress(BaseException):  # a log that raises keeps nothing from being settled
            self._lost(held, outcome)

    def _lost(self, held: Held, outcome: Outcome) -> None:
        why = {} if held.report is None else {"error": held.report.failure.error}
        self._log.warning(
            "task.lease_lost", task=str(held.delivery.id), outcome=type(outcome).__name__.lower(), **why
        )

    def _about(self, held: Held) -> dict[str, Any]:
        delivery = held.delivery
        return {"task": str(delivery.id), "type": delivery.type, "attempt": delivery.attempt}

    def _failed(self, held: Held, outcome: Outcome, report: Report) -> None:
        failure = report.failure
        again = isinstance(outcome, Retried)
        about = self._about(held)
        if isinstance(failure.decision, retry.Again) and failure.decision.instead_of:
            self._log.warning(
                "task.wait_invalid", **about, asked=failure.decision.instead_of,
                delay_ms=outcome.delay_ms if isinstance(outcome, Retried) else None,
                fix="a wait is a number of seconds from 0 on: the default was taken instead",
            )  # fmt: skip
        place = failure.frame
        logs.failed(
            self._log,
            _event(held, outcome),
            final=not again,
            exception=_exception(report),
            traceback=failure.traceback,
            about={
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
    kind = STAND_INS.setdefault(failure.error, type(failure.error, (logs.InAnotherProcess,), {}))
    found = kind(failure.message)
    found.__cause__ = logs.InAnotherProcess(f"\n\n{failure.traceback}")
    return found
