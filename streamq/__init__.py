"""streamq: a distributed task queue on Redis Streams.

The public names, nothing else. They are loaded when they are first used, so that a command line which
only prints its help, or a module that only names an error, does not pay for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamq import lazy

if TYPE_CHECKING:
    __version__: str
    from streamq.admin import Admin as Admin
    from streamq.admin import AsyncAdmin as AsyncAdmin
    from streamq.app import Handler as Handler
    from streamq.app import Registry as Registry
    from streamq.audit import Audit as Audit
    from streamq.audit import FaultCode as FaultCode
    from streamq.audit import Problem as Problem
    from streamq.audit import Repaired as Repaired
    from streamq.calls import Call as Call
    from streamq.context import Context as Context
    from streamq.context import get_context as get_context
    from streamq.daemon import Daemon as Daemon
    from streamq.deadgroups import DeadGroup as DeadGroup
    from streamq.deadgroups import DeadGroups as DeadGroups
    from streamq.deadgroups import DeadSelection as DeadSelection
    from streamq.environment import Source as Source
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
    from streamq.heartbeats import WorkerInfo as WorkerInfo
    from streamq.hooks import Enqueue as Enqueue
    from streamq.hooks import Hook as Hook
    from streamq.inspector import AsyncInspector as AsyncInspector
    from streamq.inspector import Inspector as Inspector
    from streamq.model import COUNTERS as COUNTERS
    from streamq.model import CancelAnswer as CancelAnswer
    from streamq.model import Counts as Counts
    from streamq.model import Delivery as Delivery
    from streamq.model import IdempotencyKey as IdempotencyKey
    from streamq.model import NewTask as NewTask
    from streamq.model import Outcome as Outcome
    from streamq.model import Overrides as Overrides
    from streamq.model import Priority as Priority
    from streamq.model import State as State
    from streamq.model import Success as Success
    from streamq.model import TaskId as TaskId
    from streamq.namespace import Namespace as Namespace
    from streamq.operations import Action as Action
    from streamq.operations import Pause as Pause
    from streamq.options import DaemonOptions as DaemonOptions
    from streamq.options import Durability as Durability
    from streamq.options import Duration as Duration
    from streamq.options import Executor as Executor
    from streamq.options import RateLimit as RateLimit
    from streamq.options import TaskOptions as TaskOptions
    from streamq.options import WorkerOptions as WorkerOptions
    from streamq.overview import TypeStats as TypeStats
    from streamq.queue import Bound as Bound
    from streamq.queue import Decorator as Decorator
    from streamq.queue import PerCall as PerCall
    from streamq.queue import Policy as Policy
    from streamq.queue import StreamQ as StreamQ
    from streamq.queue import TaskType as TaskType
    from streamq.queue.bound import Route as Route
    from streamq.rollups import Activity as Activity
    from streamq.rollups import Histogram as Histogram
    from streamq.rollups import Latency as Latency
    from streamq.rollups import Rollup as Rollup
    from streamq.rollups import Span as Span
    from streamq.tail import AsyncTail as AsyncTail
    from streamq.tail import Event as Event
    from streamq.tail import EventName as EventName
    from streamq.tail import Tail as Tail
    from streamq.taskinfo import TaskInfo as TaskInfo
    from streamq.tasklist import TaskFilter as TaskFilter
    from streamq.tasklist import TaskPage as TaskPage
    from streamq.tasklist import TaskRow as TaskRow
    from streamq.telemetry.health import Facts as Facts
    from streamq.telemetry.listen import Listen as Listen
    from streamq.telemetry.report import BacklogView as BacklogView
    from streamq.telemetry.report import Report as Report
    from streamq.telemetry.sums import Snapshot as Snapshot
    from streamq.telemetry.traces import Tracing as Tracing
    from streamq.transport import SyncTransport as SyncTransport
    from streamq.transport.address import Address as Address
    from streamq.worker import Worker as Worker
    from streamq.worker import WorkerGroup as WorkerGroup
    from streamq.worker.assembly import Parts as Parts
    from streamq.worker.loading import App as App

__all__, _named = lazy.names(__name__, {
    "admin": ("Admin", "AsyncAdmin"),
    "audit": ("Audit", "FaultCode", "Problem", "Repaired"),
    "context": ("Context", "get_context"),
    "daemon": ("Daemon",),
    "deadgroups": ("DeadGroup", "DeadGroups", "DeadSelection"),
    "errors": (
        "AttemptTimeout", "AuthenticationFailed", "CannotListen", "DecodeError", "DuplicateTaskType",
        "DurabilityUnknown", "IdempotencyConflict", "InvalidArguments", "InvalidOption", "InvalidTaskId",
        "InvalidURL", "OutcomeUnknown", "PayloadError", "ProcessDied", "QueueFull", "RateLimitExceeded",
        "RedisError", "RedisUnavailable", "Refused", "ResultTimeout", "ResultUnavailable", "Retry",
        "ServerError", "ServerFull", "ServerTooOld", "StreamQError", "TaskCancelled", "TaskDead", "TaskError",
        "TaskExpired", "UnknownTaskType", "UsageError",
    ),
    "handle": ("TaskHandle",),
    "heartbeats": ("WorkerInfo",),
    "hooks": ("Enqueue", "Hook"),
    "inspector": ("AsyncInspector", "Inspector"),
    "model": (
        "COUNTERS", "CancelAnswer", "Counts", "Delivery", "IdempotencyKey", "NewTask",
        "Outcome", "Priority", "State", "Success", "TaskId",
    ),
    "operations": ("Action", "Pause"),
    "options": (
        "DaemonOptions", "Durability", "Duration", "Executor", "RateLimit", "TaskOptions", "WorkerOptions",
    ),
    "overview": ("TypeStats",),
    "queue": ("Bound", "Decorator", "PerCall", "Policy", "StreamQ", "TaskType"),
    "rollups": ("Activity", "Histogram", "Latency", "Rollup", "Span"),
    "tail": ("AsyncTail", "Event", "EventName", "Tail"),
    "taskinfo": ("TaskInfo",),
    "tasklist": ("TaskFilter", "TaskPage", "TaskRow"),
    "telemetry.listen": ("Listen",),
    "telemetry.traces": ("Tracing",),
    "transport.address": ("Address",),
    "worker": ("Worker", "WorkerGroup"),
})  # fmt: skip  # pyright: ignore[reportUnsupportedDunderAll]

_inner, _inner_named = lazy.names(__name__, {
    "app": ("Handler", "Registry"),
    "calls": ("Call",),
    "environment": ("Source",),
    "queue.bound": ("Route",),
    "telemetry.health": ("Facts",),
    "telemetry.report": ("BacklogView", "Report"),
    "telemetry.sums": ("Snapshot",),
    "model": ("Overrides",),
    "namespace": ("Namespace",),
    "transport": ("SyncTransport",),
    "worker.assembly": ("Parts",),
    "worker.loading": ("App",),
})  # fmt: skip
"""What members for streamq's own parts are annotated with: to be imported, but not promised to stay."""


def __getattr__(name: str) -> object:
    if name == "__version__":
        from streamq.release import package_version  # noqa: PLC0415 - few ask

        return package_version()
    return _inner_named(name) if name in _inner else _named(name)


def __dir__() -> list[str]:
    return __all__
