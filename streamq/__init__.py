"""streamq: a distributed task queue on Redis Streams.

The public names, nothing else. They are loaded when they are first used, so that a command line which
only prints its help, or a module that only names an error, does not pay for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamq import lazy

if TYPE_CHECKING:
    from streamq.admin import Admin as Admin
    from streamq.context import Context as Context
    from streamq.context import get_context as get_context
    from streamq.daemon import Daemon as Daemon
    from streamq.errors import AttemptTimeout as AttemptTimeout
    from streamq.errors import AuthenticationFailed as AuthenticationFailed
    from streamq.errors import CannotListen as CannotListen
    from streamq.errors import DecodeError as DecodeError
    from streamq.errors import DuplicateTaskType as DuplicateTaskType
    from streamq.errors import DurabilityUnknown as DurabilityUnknown
    from streamq.errors import IdempotencyConflict as IdempotencyConflict
    from streamq.errors import InvalidArguments as InvalidArguments
    from streamq.errors import InvalidOption as InvalidOption
    from streamq.errors import InvalidTaskId as InvalidTaskId
    from streamq.errors import InvalidURL as InvalidURL
    from streamq.errors import OutcomeUnknown as OutcomeUnknown
    from streamq.errors import PayloadError as PayloadError
    from streamq.errors import ProcessDied as ProcessDied
    from streamq.errors import QueueFull as QueueFull
    from streamq.errors import RateLimitExceeded as RateLimitExceeded
    from streamq.errors import RedisError as RedisError
    from streamq.errors import RedisUnavailable as RedisUnavailable
    from streamq.errors import Refused as Refused
    from streamq.errors import ResultTimeout as ResultTimeout
    from streamq.errors import ResultUnavailable as ResultUnavailable
    from streamq.errors import Retry as Retry
    from streamq.errors import ServerError as ServerError
    from streamq.errors import ServerFull as ServerFull
    from streamq.errors import ServerTooOld as ServerTooOld
    from streamq.errors import StreamQError as StreamQError
    from streamq.errors import TaskCancelled as TaskCancelled
    from streamq.errors import TaskDead as TaskDead
    from streamq.errors import TaskError as TaskError
    from streamq.errors import TaskExpired as TaskExpired
    from streamq.errors import UnknownTaskType as UnknownTaskType
    from streamq.errors import UsageError as UsageError
    from streamq.handle import TaskHandle as TaskHandle
    from streamq.inspector import Inspector as Inspector
    from streamq.options import DaemonOptions as DaemonOptions
    from streamq.options import RateLimit as RateLimit
    from streamq.options import TaskOptions as TaskOptions
    from streamq.options import WorkerOptions as WorkerOptions
    from streamq.queue import StreamQ as StreamQ
    from streamq.queue import TaskType as TaskType
    from streamq.worker import Worker as Worker
    from streamq.worker import WorkerGroup as WorkerGroup

__all__, __getattr__ = lazy.names(__name__, {
    "admin": ("Admin",),
    "context": ("Context", "get_context"),
    "daemon": ("Daemon",),
    "errors": (
        "AttemptTimeout", "AuthenticationFailed", "CannotListen", "DecodeError", "DuplicateTaskType",
        "DurabilityUnknown",
        "IdempotencyConflict", "InvalidArguments", "InvalidOption", "InvalidTaskId", "InvalidURL",
        "OutcomeUnknown", "PayloadError", "ProcessDied", "QueueFull", "RateLimitExceeded", "RedisError",
        "RedisUnavailable", "Refused", "ResultTimeout", "ResultUnavailable", "Retry", "ServerError",
        "ServerFull", "ServerTooOld", "StreamQError", "TaskCancelled", "TaskDead", "TaskError",
        "TaskExpired", "UnknownTaskType", "UsageError",
    ),
    "handle": ("TaskHandle",),
    "inspector": ("Inspector",),
    "options": ("DaemonOptions", "RateLimit", "TaskOptions", "WorkerOptions"),
    "queue": ("StreamQ", "TaskType"),
    "worker": ("Worker", "WorkerGroup"),
})  # fmt: skip  # pyright: ignore[reportUnsupportedDunderAll]


def __dir__() -> list[str]:
    return __all__
