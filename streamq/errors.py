"""The errors of streamq: the class tells whose fault it is.

Owns every exception that streamq raises to its users. Must not import anything of streamq.

* `UsageError`: the caller's fault; the message names the fault and the fix. Nothing was sent.
* `Refused`: the queue works and said no (rate limit, full backlog). Come again later.
* `RedisError`: the server's or the network's fault.
* `TaskError`: how a task ended, told to whoever asked for its result.
* `Retry`, `RateLimited`: not errors at all; a handler raises one to be run again later.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta


class StreamQError(Exception):
    """The base of all errors that streamq raises."""


class UsageError(StreamQError):
    """The caller asked for something that cannot be: the message says what to write instead."""


class InvalidOption(UsageError, ValueError):
    """An option has an unknown name or a value outside its range."""


class CannotListen(UsageError):
    """The address for probes and metrics is taken, or is none of this host's."""


class InvalidURL(UsageError, ValueError):
    """A server URL that streamq does not understand."""


class DuplicateTaskType(UsageError):
    """Two handlers of one app claim the same task type."""


class UnknownTaskType(UsageError, LookupError):
    """A task type that this app or queue does not know."""


class InvalidArguments(UsageError, TypeError):
    """The arguments do not fit the handler's signature."""


class PayloadError(UsageError, ValueError):
    """The arguments or the result cannot be written as JSON, or are larger than the limit."""


class InvalidTaskId(UsageError, ValueError):
    """A text that is not a task id of this app."""


class IdempotencyConflict(UsageError):
    """The idempotency key has been given to another task: `task_id` is that one's.

    Nothing was stored for this task. `accepted` holds the handles of the tasks that the same bulk call
    had accepted, None where there is none.
    """

    def __init__(self, message: str, *, task_id: str, accepted: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.accepted: list[object] = list(accepted)


class Refused(StreamQError):
    """The queue refused the task; nothing of it was stored.

    `accepted` holds the handles of the tasks that the same bulk call had accepted before, None where
    a task was refused; it is empty for a single task.
    """

    def __init__(self, message: str, *, accepted: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.accepted: list[object] = list(accepted)


class RateLimitExceeded(Refused):
    """The task type's rate limit is used up; `retry_after` (seconds) tells when to come again."""

    def __init__(self, message: str, *, retry_after: float, accepted: Sequence[object] = ()) -> None:
        super().__init__(message, accepted=accepted)
        self.retry_after = retry_after


class QueueFull(Refused):
    """The task type's backlog limit is reached."""


class RedisError(StreamQError):
    """The server could not do what was asked."""


class RedisUnavailable(RedisError, ConnectionError):
    """No connection to the server, or it is not ready; trying again may help."""


class OutcomeUnknown(RedisUnavailable):
    """The server did not answer in time whether it took the call: it may have, or not.

    Enqueueing again may then make a second task. With `.options(idempotency_key=...)` it does not: the
    second call is answered with the first one's task where there is one.
    """


class DurabilityUnknown(OutcomeUnknown):
    """The task exists on the server, but it did not become known in time that it is as durable as asked.

    `task_id` is its id. It will run; only a failover or a crash of the server may still lose it. Enqueueing
    again makes a second task, or with an idempotency key waits anew for the same one. `accepted` holds the
    handles of the tasks of the same bulk call that exist, None where one was refused.
    """

    def __init__(self, message: str, *, task_id: str, accepted: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.accepted: list[object] = list(accepted)


class AuthenticationFailed(RedisError):
    """The server refused the user or the password, or the user may not do this."""


class ServerTooOld(RedisError):
    """The server is older than streamq needs."""


class ServerFull(QueueFull, RedisError):
    """The server is at its memory limit and takes no new tasks; what it holds can still be drained."""


class ServerError(RedisError):
    """The server answered a call with an error that streamq has no better name for."""


class DecodeError(StreamQError, ValueError):
    """A stream entry or a stored value that streamq cannot read; `reason` is one word for filters."""

    def __init__(self, message: str, *, reason: str = "undecodable") -> None:
        super().__init__(message)
        self.reason = reason


class TaskError(StreamQError):
    """A task did not complete."""


class TaskDead(TaskError):
    """The task is a dead letter: `error` is its last error, `reason` why it will not run again."""

    def __init__(self, message: str, *, reason: str, error: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.error = error


class TaskCancelled(TaskError):
    """The task was cancelled before it completed."""


class TaskExpired(TaskError):
    """The task was too old to be worth running when a worker took it."""


class ResultTimeout(StreamQError, TimeoutError):
    """The task had not ended when the time to wait for it was over. The task goes on."""


class ResultUnavailable(StreamQError, LookupError):
    """No such task, or it ended and its result was not kept (retention 0) or is no longer kept."""


class Retry(Exception):
    """Raise it in a handler to be run again later; it counts as one attempt.

    `after` is a delay (seconds, timedelta or text such as "5m"); None takes the policy's backoff.
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


class AttemptTimeout(TimeoutError):
    """An attempt ran longer than its task's timeout. Recorded as the attempt's error.

    `stood`: the stack of the handler when its time was over, as text; '' where it is not known.
    """

    stood = ""


class ProcessDied(RuntimeError):
    """The process that ran a handler with `executor="process"` ended before the handler did."""
