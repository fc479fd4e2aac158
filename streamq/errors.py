"""The exceptions of streamq: the class says what is at fault.

Owns every exception that streamq raises to its users. Must not import anything of streamq.

* `UsageError`: the caller; the message names the fault and the fix. Nothing was sent.
* `Refused`: nothing; the queue works, but rejects the task (rate limit, full backlog). Retry later.
* `RedisError`: the server or the network.
* `TaskError`: the task, which did not complete; raised by `result`.
* `Retry`, `RateLimited`: nothing; a handler raises one to run again later.
* `LeaseLost`: the worker, which no longer holds the task that it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta


class StreamQError(Exception):
    """The base class of all errors that streamq raises."""


class UsageError(StreamQError):
    """The caller asked for something impossible: the message says what to write instead."""


class InvalidOption(UsageError, ValueError):
    """An option has an unknown name or a value outside its range."""


class InvalidDependency(UsageError):
    """A dependency of a handler that no worker can give, or that is declared in a wrong way."""


class LifespanFailed(UsageError):
    """The app's lifespan, or a dependency that its process keeps, could not start."""


class CannotListen(UsageError):
    """The address for probes and metrics is in use, or does not belong to this host."""


class InvalidURL(UsageError, ValueError):
    """A server URL that streamq does not understand."""


class DuplicateTaskType(UsageError):
    """Two handlers of one app have the same task type."""


class UnknownTaskType(UsageError, LookupError):
    """A task type that this app or queue does not know."""


class UnknownSchedule(UsageError, LookupError):
    """A name that no schedule of this app has."""


class InvalidArguments(UsageError, TypeError):
    """The arguments do not match the handler's signature."""


class PayloadError(UsageError, ValueError):
    """The arguments or the result cannot be written as JSON, or exceed the size limit."""


class UnknownFlow(UsageError, LookupError):
    """There is no such flow, or it ended so long ago that it is no longer stored."""


class InvalidTaskId(UsageError, ValueError):
    """A text that is not a task id of this app."""


class IdempotencyConflict(UsageError):
    """The idempotency key belongs to another task, `task_id`.

    Nothing was stored for this task. accepted: the handles of the tasks of the same bulk call that exist,
    None for the others.
    """

    def __init__(self, message: str, *, task_id: str, accepted: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.accepted: list[object] = list(accepted)


class UniqueConflict(UsageError):
    """Another task, `task_id`, holds this task's unique key, and on_conflict is "raise".

    Nothing was stored for this task. accepted: the handles of the other tasks of the same bulk call, None for
    each that was refused.
    """

    def __init__(self, message: str, *, task_id: str, accepted: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.accepted: list[object] = list(accepted)


class Refused(StreamQError):
    """The queue refused the task; nothing was stored for it.

    accepted: the handles of the tasks of the same bulk call that were accepted, None for those that were
    refused; empty for a single task.
    """

    def __init__(self, message: str, *, accepted: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.accepted: list[object] = list(accepted)


class RateLimitExceeded(Refused):
    """The task type's rate limit is exceeded. retry_after: seconds until a retry may succeed."""

    def __init__(self, message: str, *, retry_after: float, accepted: Sequence[object] = ()) -> None:
        super().__init__(message, accepted=accepted)
        self.retry_after = retry_after


class QueueFull(Refused):
    """The task type's backlog limit is reached."""


class BlobStoreError(StreamQError, OSError):
    """The blob store of the app cannot be reached, or refused. Nothing was enqueued."""


class RedisError(StreamQError):
    """The server could not execute a call."""


class RedisUnavailable(RedisError, ConnectionError):
    """There is no connection to the server, or it is not ready; a retry may help."""


class OutcomeUnknown(RedisUnavailable):
    """The server did not reply in time: it may have executed the call, or not.

    Enqueueing again may create a second task. With `.options(idempotency_key=...)` it does not: the second
    call returns the first one's task if there is one.
    """


class DurabilityUnknown(OutcomeUnknown):
    """The task exists on the server, but was not confirmed in time to be as durable as asked.

    task_id: its id. It will run; only a failover or a crash of the server may still lose it. Enqueueing again
    creates a second task, or with an idempotency key waits again for the same one. accepted: the handles of
    the tasks of the same bulk call that exist, None for those that were refused.
    """

    def __init__(self, message: str, *, task_id: str, accepted: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.accepted: list[object] = list(accepted)


class AuthenticationFailed(RedisError):
    """The server refused the user or the password, or denied the command to the user."""


class ServerTooOld(RedisError):
    """The server is older than streamq needs."""


class ServerFull(QueueFull, RedisError):
    """The server is at its memory limit and accepts no new tasks; its tasks can still be run."""


class ServerError(RedisError):
    """The server replied to a call with an error that has no class of its own."""


class DecodeError(StreamQError, ValueError):
    """A stream entry or a stored value cannot be read. reason: one word, for filters."""

    def __init__(self, message: str, *, reason: str = "undecodable") -> None:
        super().__init__(message)
        self.reason = reason


class UnknownArguments(DecodeError):
    """A payload has arguments that the handler does not have, and all that it needs: newer code may have sent
    it. names: of these arguments."""

    def __init__(self, message: str, names: tuple[str, ...]) -> None:
        super().__init__(message, reason="arguments")
        self.names = names


class TaskError(StreamQError):
    """A task did not complete."""


class TaskDead(TaskError):
    """The task is a dead letter. error: its last error. reason: why it is not tried again."""

    def __init__(self, message: str, *, reason: str, error: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.error = error


class TaskCancelled(TaskError):
    """The task was cancelled before it completed."""


class TaskExpired(TaskError):
    """The task had expired when a worker took it."""


class FlowError(StreamQError):
    """A flow ended without completing."""


class FlowFailed(FlowError):
    """A node of the flow failed. node: its name; error: why."""

    def __init__(self, message: str, *, node: str = "", error: str = "") -> None:
        super().__init__(message)
        self.node = node
        self.error = error


class FlowCancelled(FlowError):
    """The flow was cancelled."""


class ResultTimeout(StreamQError, TimeoutError):
    """The task had not ended when the timeout was over. The task goes on."""


class ResultUnavailable(StreamQError, LookupError):
    """There is no such task, or its result was not kept (retention 0) or has expired."""


class Retry(Exception):
    """Raise this in a handler to run it again later; it counts as one attempt.

    after: a delay (seconds, timedelta or text such as "5m"); None uses the policy's backoff.
    """

    def __init__(
        self, message: str = "the handler asked for a retry", *, after: float | timedelta | str | None = None
    ) -> None:
        super().__init__(message)
        self.after = after


class RateLimited(Exception):
    """Raise it in a handler when something outside says "too many requests": the task runs again after the
    time that it named, and until then nothing of its lane starts. No attempt is counted.

    `after` is a delay: seconds, timedelta or text such as "30s".
    """

    def __init__(
        self, message: str = "the handler met a rate limit", *, after: float | timedelta | str
    ) -> None:
        super().__init__(message)
        self.after = after


class LeaseLost(StreamQError):
    """This worker no longer holds the task that it runs, so nothing is stored for the attempt."""


class SignalTimeout(StreamQError, TimeoutError):
    """No signal came in the time that `get_context().wait` was given. A later attempt gets this again."""


class Suspended(BaseException):
    """Ends an attempt that sleeps or waits for a signal: `get_context().sleep` and `wait` raise it for
    streamq itself. No Exception, so that no `except Exception` takes it for a failure.

    delay: seconds until the task runs again. memo: of what it waits for.
    """

    def __init__(self, delay: float, memo: str) -> None:
        super().__init__(f"the task is suspended for up to {delay:g} s: {memo}")
        self.delay: float = delay
        self.memo: str = memo

    def __reduce__(self) -> tuple[type[Suspended], tuple[float, str]]:
        return Suspended, (self.delay, self.memo)


class Interrupted(BaseException):
    """Ends an attempt whose worker stops, between two rows of `get_context().resume`: streamq raises it for
    itself, and the task goes on in another worker. Nothing is counted."""


class AttemptTimeout(TimeoutError):
    """An attempt ran longer than its task's timeout. Recorded as the attempt's error.

    stack: of the handler when the timeout struck, as text; '' if it is unknown.
    """

    stack = ""


class ProcessDied(RuntimeError):
    """The process that ran a handler with `executor="process"` ended before the handler did."""
