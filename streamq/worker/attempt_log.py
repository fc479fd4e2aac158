"""Logs attempts: their start, their outcome, and why they failed.

Owns the log lines and the `logging` records of attempts. An outcome is logged after Redis has stored it, so
that the log is correct: a delivery that was fenced, or could not be settled, is logged neither as a retry nor
as a dead letter. Makes no decision. Lines about attempts without a failure have level debug.
"""

from __future__ import annotations

from contextlib import suppress

from streamq import retry
from streamq.model.delivery import Delivery
from streamq.model.outcome import Died, Outcome, Retried, name_of
from streamq.telemetry import logs
from streamq.worker.in_flight import FailedAttempt, Held

_REMOTE_CLASSES: dict[str, type[BaseException]] = {}
"""Exception classes for the `logging` records of exceptions raised in child processes, by name."""
_MAX_REMOTE_CLASSES = 200


class AttemptLog:
    """The log of one worker's attempts. As an observer it is `active` only if debug lines are written."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._log = logs.get_logger(worker=worker)
        self.active: bool = logs.debug_enabled()

    def attempt_began(self, task: Delivery, _at_ms: int) -> None:
        """Log that a handler is about to be called. `lost`: deliveries of the task lost in a row."""
        lost = {"lost": task.lost} if task.lost else {}
        self._log.debug("task.started", **_task_fields(task), **lost)

    def attempt_stored(self, task: Delivery, outcome: Outcome, seconds: float | None, _at_ms: int) -> None:
        """Log an outcome that Redis has stored; failures are logged by `failed`."""
        if not isinstance(outcome, Retried | Died):
            duration = {} if seconds is None else {"seconds": round(seconds, 6)}
            self._log.debug(f"task.{name_of(outcome)}", **_task_fields(task), **duration)

    def failed(self, held: Held, outcome: Outcome) -> None:
        """Log a failed attempt whose outcome Redis has stored."""
        if held.failed is not None:
            with suppress(BaseException):  # a log that raises must not prevent settlement
                self._failed(held, outcome, held.failed)
            held.failed = None

    def fenced(self, held: Held, outcome: Outcome) -> None:
        """Log that the outcome of an attempt was dropped, because its delivery was taken over."""
        with suppress(BaseException):  # a log that raises must not prevent settlement
            error = {} if held.failed is None else {"error": held.failed.failure.error}
            self._log.warning("task.fenced", task=str(held.delivery.id), outcome=name_of(outcome), **error)

    def _failed(self, held: Held, outcome: Outcome, failed: FailedAttempt) -> None:
        failure = failed.failure
        fields = _task_fields(held.delivery)
        if isinstance(failure.decision, retry.Again) and failure.decision.instead_of:
            self._log.warning(
                "task.wait_invalid", **fields, asked=failure.decision.instead_of,
                delay_ms=outcome.delay_ms if isinstance(outcome, Retried) else None,
                fix="return a number of seconds >= 0; the default wait was used instead",
            )  # fmt: skip
        frame = failure.frame
        logs.log_failure(
            self._log,
            _event(held, outcome),
            final=not isinstance(outcome, Retried),
            exception=_exception(failed),
            traceback=failure.traceback,
            fields={
                **fields,
                "error": failure.error,
                "message": failure.message,
                **({} if frame is None else {"at": f"{frame.file}:{frame.line}"}),
                **_outcome_fields(outcome),
                "more": f"streamq task show {held.delivery.id}",
                **({"trace_id": failed.trace} if failed.trace else {}),
            },
            worker=self._worker,
            attempts=f"{held.delivery.attempt} of {failed.max_attempts}",
        )


def _task_fields(task: Delivery) -> dict[str, object]:
    return {"task": str(task.id), "type": task.type, "attempt": task.attempt}


def _event(held: Held, outcome: Outcome) -> str:
    if isinstance(outcome, Retried):
        return "task.retried"
    return "task.dead" if held.delivery.attempt else "task.undecodable"


def _outcome_fields(outcome: Outcome) -> dict[str, object]:
    if isinstance(outcome, Retried):
        return {"delay_ms": outcome.delay_ms}
    return {"reason": outcome.reason} if isinstance(outcome, Died) else {}


def _exception(failed: FailedAttempt) -> BaseException:
    """Return the exception. If it was raised in a child process, return one with its name and traceback."""
    failure = failed.failure
    if type(failed.error).__name__ != "FailedInChild":
        return failed.error
    if len(_REMOTE_CLASSES) > _MAX_REMOTE_CLASSES:
        _REMOTE_CLASSES.clear()
    kind = _REMOTE_CLASSES.setdefault(failure.error, type(failure.error, (logs.RemoteError,), {}))
    found = kind(failure.message)
    found.__cause__ = logs.RemoteError(f"\n\n{failure.traceback}")
    return found
