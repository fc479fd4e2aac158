"""One attempt of a Django task: its context, its signals, and what its result will hold.

Owns what happens around the user's function. Must not decide how a failure ends: the worker does.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from streamq import envelope, retry
from streamq.context import get_context
from streamq.django.calls import Returned, UnsupportedResult
from streamq.django.errors import error_of, of_failure
from streamq.django.names import (
    TaskContext,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    task_finished,
    task_started,
)
from streamq.model.delivery import Delivery
from streamq.registry.handler import Handler
from streamq.worker import failures


@dataclass(slots=True)
class Attempt:
    """One attempt. result: as the signals and the context show it."""

    task: Any
    handler: Handler
    delivery: Delivery
    result: TaskResult[Any]

    @property
    def sender(self) -> type:
        """The class of the backend, which sends the signals."""
        return type(self.task.get_backend())

    def arguments(self) -> list[Any]:
        """Return what the function is called with by position."""
        before = [TaskContext(task_result=self.result)] if self.task.takes_context else []
        return [*before, *self.result.args]

    def began(self) -> None:
        """Tell that it starts."""
        task_started.send_robust(sender=self.sender, task_result=self.result)

    def failed(self, error: BaseException) -> None:
        """Tell that it failed, if the task is not tried again. Call it where the exception is handled."""
        decision = failures.failure(self.handler, self.delivery, error).decision
        if not isinstance(decision, retry.GiveUp):
            return
        self.result.errors.append(error_of(error))
        self._end(TaskResultStatus.FAILED)

    def returned(self, value: object) -> Returned:
        """Tell that it succeeded; return what is stored. Raises UnsupportedResult."""
        value = _plain(value)
        object.__setattr__(self.result, "_return_value", value)
        self._end(TaskResultStatus.SUCCESSFUL)
        return Returned(value, self.result.args, self.result.kwargs, self._more())

    def _end(self, status: Any) -> None:
        object.__setattr__(self.result, "finished_at", timezone.now())
        object.__setattr__(self.result, "status", status)
        task_finished.send_robust(sender=self.sender, task_result=self.result)

    def _more(self) -> dict[str, object]:
        found: dict[str, object] = {}
        if self.delivery.accepted_ms is not None:
            found["enqueued_ms"] = self.delivery.accepted_ms
        if self.delivery.failures:
            found["worker_ids"] = list(self.result.worker_ids)
            found["started_ms"] = started_ms(envelope.failures(self.delivery.failures))
            found["errors"] = [
                {"class": one.exception_class_path, "traceback": one.traceback} for one in self.result.errors
            ]
        return found


def _plain(value: object) -> object:
    try:
        return normalize_json(value)
    except (TypeError, ValueError) as error:
        raise UnsupportedResult(
            f"the return value cannot be stored: {error}. Return text, numbers, lists and mappings of them"
        ) from error


def begin(task: Any, handler: Handler, args: list[Any], kwargs: dict[str, Any]) -> Attempt:
    """Return the attempt that runs now."""
    context = get_context()
    delivery: Any = context._task  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    listed = envelope.failures(delivery.failures, handler.app, delivery.type) if delivery.failures else []
    now = timezone.now()
    first = started_ms(listed)
    result: TaskResult[Any] = TaskResult(
        task=task,
        id=context.id,
        status=TaskResultStatus.RUNNING,
        enqueued_at=moment(delivery.enqueued_ms),
        started_at=moment(first) if first else now,
        finished_at=None,
        last_attempted_at=now,
        args=args,
        kwargs=kwargs,
        backend=task.backend,
        errors=[of_failure(one) for one in listed],
        worker_ids=workers(listed, context.attempt - 1, context.worker),
    )
    return Attempt(task, handler, delivery, result)


@contextmanager
def told(attempt: Attempt) -> Generator[None]:
    """Tell of an attempt's start and of its failure."""
    attempt.began()
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        attempt.failed(error)
        raise


def run(task: Any, attempt: Attempt) -> Returned:
    """Call a `def`."""
    with told(attempt):
        return attempt.returned(task.func(*attempt.arguments(), **attempt.result.kwargs))


async def arun(task: Any, attempt: Attempt) -> Returned:
    """Call an `async def`."""
    with told(attempt):
        return attempt.returned(await task.func(*attempt.arguments(), **attempt.result.kwargs))


def workers(listed: list[envelope.Failure], attempts: int, last: str = "") -> list[str]:
    """Return the worker of each attempt: as many as there were attempts, whatever is known of each. listed:
    failures, of which some may have been cut out."""
    by_attempt = {one.get("attempt"): str(one.get("worker") or "unknown") for one in listed}
    found = [by_attempt.get(number, "unknown") for number in range(1, attempts + 1)]
    return [*found, last] if last else found


def started_ms(listed: list[envelope.Failure]) -> int:
    """Return when the first attempt began; 0 if there was none yet."""
    if not listed:
        return 0
    at, ran = listed[0].get("at_ms"), listed[0].get("run_ms")
    return (at if isinstance(at, int) else 0) - (ran if isinstance(ran, int) else 0)


def moment(ms: float) -> datetime | None:
    """Return a time in ms as Django has it: aware where USE_TZ is on."""
    try:
        found = datetime.fromtimestamp(ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    from django.conf import settings  # noqa: PLC0415 - settings are read when they are needed

    return found if settings.USE_TZ else timezone.make_naive(found)
