"""streamq: a distributed task queue on Redis Streams.

Exports the public names. Each is imported when it is first used, so that a command that only prints its help,
or a module that only names an error, does not import the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamq import lazy

if TYPE_CHECKING:
    __version__: str
    from streamq.app.app import StreamQ as StreamQ
    from streamq.app.bound_task import Bound as Bound
    from streamq.app.bound_task import Route as Route
    from streamq.app.expand import Expand as Expand
    from streamq.app.expand import Joined as Joined
    from streamq.app.flow_declaration import Undo as Undo
    from streamq.app.flow_graph import FlowGraph as FlowGraph
    from streamq.app.flow_handle import FlowHandle as FlowHandle
    from streamq.app.flow_node import Node as Node
    from streamq.app.flow_node import OnError as OnError
    from streamq.app.handle import TaskHandle as TaskHandle
    from streamq.app.keyed_task import KeyedTask as KeyedTask
    from streamq.app.registrar import Registrar as Registrar
    from streamq.app.task_events import TaskEvents as TaskEvents
    from streamq.app.task_set import TaskSet as TaskSet
    from streamq.app.task_type import Decorator as Decorator
    from streamq.app.task_type import Sends as Sends
    from streamq.app.task_type import TaskType as TaskType
    from streamq.audit import Audit as Audit
    from streamq.audit import FaultCode as FaultCode
    from streamq.audit import Problem as Problem
    from streamq.audit import Repaired as Repaired
    from streamq.blobs.files import FileBlobs as FileBlobs
    from streamq.blobs.redis import RedisBlobs as RedisBlobs
    from streamq.blobs.s3 import S3Blobs as S3Blobs
    from streamq.calls.call import Call as Call
    from streamq.client.task_event import EventKind as EventKind
    from streamq.client.task_event import TaskEvent as TaskEvent
    from streamq.context import Context as Context
    from streamq.context import get_context as get_context
    from streamq.context_protocols import Enqueues as Enqueues
    from streamq.context_protocols import Returns as Returns
    from streamq.context_protocols import Starts as Starts
    from streamq.control.action_log import Action as Action
    from streamq.control.action_log import Pause as Pause
    from streamq.control.admin import Admin as Admin
    from streamq.control.admin import AsyncAdmin as AsyncAdmin
    from streamq.control.admin import Unlocked as Unlocked
    from streamq.control.admin import UnlockResult as UnlockResult
    from streamq.control.dead_letter_actions import Resealed as Resealed
    from streamq.control.dead_letters import DeadGroup as DeadGroup
    from streamq.control.dead_letters import DeadGroups as DeadGroups
    from streamq.control.dead_letters import DeadSelection as DeadSelection
    from streamq.control.event_tail import AsyncTail as AsyncTail
    from streamq.control.event_tail import Event as Event
    from streamq.control.event_tail import EventName as EventName
    from streamq.control.event_tail import Tail as Tail
    from streamq.control.flow_pages import FlowChild as FlowChild
    from streamq.control.flow_pages import FlowPage as FlowPage
    from streamq.control.flow_pages import FlowPart as FlowPart
    from streamq.control.flows import AsyncFlows as AsyncFlows
    from streamq.control.flows import Flows as Flows
    from streamq.control.flows import FlowView as FlowView
    from streamq.control.inspector import AsyncInspector as AsyncInspector
    from streamq.control.inspector import Inspector as Inspector
    from streamq.control.key_use import KeyUse as KeyUse
    from streamq.control.lanes import LaneInfo as LaneInfo
    from streamq.control.overview import TypeStats as TypeStats
    from streamq.control.rollups import Activity as Activity
    from streamq.control.rollups import Rollup as Rollup
    from streamq.control.rollups import Span as Span
    from streamq.control.schedule_info import ScheduleInfo as ScheduleInfo
    from streamq.control.schedule_info import Standing as Standing
    from streamq.control.schedules import AsyncSchedules as AsyncSchedules
    from streamq.control.schedules import BoundTask as BoundTask
    from streamq.control.schedules import Schedules as Schedules
    from streamq.control.standstill import StandingLanes as StandingLanes
    from streamq.control.standstill import Standstill as Standstill
    from streamq.control.task_info import TaskInfo as TaskInfo
    from streamq.control.task_list import TaskPage as TaskPage
    from streamq.control.task_rows import TaskFilter as TaskFilter
    from streamq.control.task_rows import TaskRow as TaskRow
    from streamq.control.unique_locks import HolderState as HolderState
    from streamq.control.unique_locks import UniqueLock as UniqueLock
    from streamq.daemon.daemon import Daemon as Daemon
    from streamq.environment import Source as Source
    from streamq.errors import AttemptTimeout as AttemptTimeout
    from streamq.errors import AuthenticationFailed as AuthenticationFailed
    from streamq.errors import BlobStoreError as BlobStoreError
    from streamq.errors import CannotListen as CannotListen
    from streamq.errors import DecodeError as DecodeError
    from streamq.errors import DuplicateTaskType as DuplicateTaskType
    from streamq.errors import DurabilityUnknown as DurabilityUnknown
    from streamq.errors import FlowCancelled as FlowCancelled
    from streamq.errors import FlowError as FlowError
    from streamq.errors import FlowFailed as FlowFailed
    from streamq.errors import IdempotencyConflict as IdempotencyConflict
    from streamq.errors import InvalidArguments as InvalidArguments
    from streamq.errors import InvalidDependency as InvalidDependency
    from streamq.errors import InvalidOption as InvalidOption
    from streamq.errors import InvalidTaskId as InvalidTaskId
    from streamq.errors import InvalidURL as InvalidURL
    from streamq.errors import LeaseLost as LeaseLost
    from streamq.errors import LifespanFailed as LifespanFailed
    from streamq.errors import OutcomeUnknown as OutcomeUnknown
    from streamq.errors import PayloadError as PayloadError
    from streamq.errors import ProcessDied as ProcessDied
    from streamq.errors import QueueFull as QueueFull
    from streamq.errors import RateLimited as RateLimited
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
    from streamq.errors import SignalTimeout as SignalTimeout
    from streamq.errors import StreamQError as StreamQError
    from streamq.errors import TaskCancelled as TaskCancelled
    from streamq.errors import TaskDead as TaskDead
    from streamq.errors import TaskError as TaskError
    from streamq.errors import TaskExpired as TaskExpired
    from streamq.errors import UniqueConflict as UniqueConflict
    from streamq.errors import UnknownFlow as UnknownFlow
    from streamq.errors import UnknownSchedule as UnknownSchedule
    from streamq.errors import UnknownTaskType as UnknownTaskType
    from streamq.errors import UsageError as UsageError
    from streamq.flows.inputs import Failure as Failure
    from streamq.flows.reading import FlowInfo as FlowInfo
    from streamq.flows.reading import FlowState as FlowState
    from streamq.flows.reading import NodeInfo as NodeInfo
    from streamq.flows.reading import NodeKind as NodeKind
    from streamq.flows.reading import NodeState as NodeState
    from streamq.heartbeat import WorkerInfo as WorkerInfo
    from streamq.histogram import Histogram as Histogram
    from streamq.histogram import Latency as Latency
    from streamq.hooks import Enqueue as Enqueue
    from streamq.hooks import Hook as Hook
    from streamq.hooks import TaskEnded as TaskEnded
    from streamq.hooks import TaskEndedState as TaskEndedState
    from streamq.item import Item as Item
    from streamq.memos import Suspension as Suspension
    from streamq.model.counts import COUNTERS as COUNTERS
    from streamq.model.counts import Counts as Counts
    from streamq.model.delivery import Delivery as Delivery
    from streamq.model.delivery import Overrides as Overrides
    from streamq.model.delivery import Success as Success
    from streamq.model.outcome import Outcome as Outcome
    from streamq.model.task import CancelAnswer as CancelAnswer
    from streamq.model.task import IdempotencyKey as IdempotencyKey
    from streamq.model.task import NewTask as NewTask
    from streamq.model.task import Priority as Priority
    from streamq.model.task import SignalAnswer as SignalAnswer
    from streamq.model.task import State as State
    from streamq.model.task import TaskId as TaskId
    from streamq.namespace import Namespace as Namespace
    from streamq.options.batch import Batch as Batch
    from streamq.options.checks import Durability as Durability
    from streamq.options.checks import Duration as Duration
    from streamq.options.checks import Executor as Executor
    from streamq.options.checks import Extra as Extra
    from streamq.options.checks import LogLevel as LogLevel
    from streamq.options.lane import Lane as Lane
    from streamq.options.lane import OnDead as OnDead
    from streamq.options.lane import StartRate as StartRate
    from streamq.options.rate import RateLimit as RateLimit
    from streamq.options.schedule import Cron as Cron
    from streamq.options.schedule import Every as Every
    from streamq.options.schedule import Misfire as Misfire
    from streamq.options.schedule import Overlap as Overlap
    from streamq.options.schedule import Schedule as Schedule
    from streamq.options.service import DaemonOptions as DaemonOptions
    from streamq.options.service import WorkerOptions as WorkerOptions
    from streamq.options.task import TaskOptions as TaskOptions
    from streamq.options.typed import PerCall as PerCall
    from streamq.options.typed import Policy as Policy
    from streamq.options.unique import OnConflict as OnConflict
    from streamq.options.unique import Unique as Unique
    from streamq.options.unique import Until as Until
    from streamq.payloads.blob_store import Blobs as Blobs
    from streamq.payloads.blob_store import BlobStore as BlobStore
    from streamq.payloads.blob_store import ListedBlob as ListedBlob
    from streamq.payloads.compression import Compression as Compression
    from streamq.payloads.keyring import Key as Key
    from streamq.payloads.keyring import KeyRing as KeyRing
    from streamq.payloads.ring import Cipher as Cipher
    from streamq.payloads.ring import Ring as Ring
    from streamq.probes.health import Facts as Facts
    from streamq.probes.listen import Listen as Listen
    from streamq.probes.report import BacklogView as BacklogView
    from streamq.probes.report import Report as Report
    from streamq.registry.handler import Handler as Handler
    from streamq.registry.registry import Registry as Registry
    from streamq.registry.upcasting import MemoUpcaster as MemoUpcaster
    from streamq.registry.upcasting import Upcaster as Upcaster
    from streamq.registry.upcasting import ValueUpcaster as ValueUpcaster
    from streamq.resources.declared import DependencyOverrides as DependencyOverrides
    from streamq.resources.declared import Provider as Provider
    from streamq.resources.depends import Depends as Depends
    from streamq.resources.depends import Scope as Scope
    from streamq.resources.lifespan import Lifespan as Lifespan
    from streamq.schedules.state import Origin as Origin
    from streamq.supervisor.group import WorkerGroup as WorkerGroup
    from streamq.telemetry.counters import Snapshot as Snapshot
    from streamq.telemetry.traces import Tracing as Tracing
    from streamq.transport.address import Address as Address
    from streamq.transport.sync_transport import SyncTransport as SyncTransport
    from streamq.worker.assembly import Parts as Parts
    from streamq.worker.loading import App as App
    from streamq.worker.worker import Worker as Worker

__all__, _named = lazy.names(__name__, {
    "app.app": ("StreamQ",),
    "app.bound_task": ("Bound",),
    "app.expand": ("Expand", "Joined"),
    "app.flow_declaration": ("Undo",),
    "app.flow_graph": ("FlowGraph",),
    "app.flow_node": ("Node", "OnError"),
    "app.flow_handle": ("FlowHandle",),
    "app.handle": ("TaskHandle",),
    "app.keyed_task": ("KeyedTask",),
    "app.registrar": ("Registrar",),
    "app.task_set": ("TaskSet",),
    "app.task_events": ("TaskEvents",),
    "client.task_event": ("EventKind", "TaskEvent"),
    "app.task_type": ("Decorator", "Sends", "TaskType"),
    "audit": ("Audit", "FaultCode", "Problem", "Repaired"),
    "blobs.files": ("FileBlobs",),
    "blobs.redis": ("RedisBlobs",),
    "blobs.s3": ("S3Blobs",),
    "context": ("Context", "get_context"),
    "context_protocols": ("Enqueues", "Returns", "Starts"),
    "control.action_log": ("Action", "Pause"),
    "control.admin": ("Admin", "AsyncAdmin", "Unlocked", "UnlockResult"),
    "control.dead_letter_actions": ("Resealed",),
    "control.dead_letters": ("DeadGroup", "DeadGroups", "DeadSelection"),
    "control.event_tail": ("AsyncTail", "Event", "EventName", "Tail"),
    "control.flow_pages": ("FlowChild", "FlowPage", "FlowPart"),
    "control.flows": ("AsyncFlows", "Flows", "FlowView"),
    "heartbeat": ("WorkerInfo",),
    "control.inspector": ("AsyncInspector", "Inspector"),
    "control.key_use": ("KeyUse",),
    "control.lanes": ("LaneInfo",),
    "control.standstill": ("StandingLanes", "Standstill"),
    "control.overview": ("TypeStats",),
    "control.rollups": ("Activity", "Rollup", "Span"),
    "control.schedule_info": ("ScheduleInfo", "Standing"),
    "control.schedules": ("AsyncSchedules", "Schedules"),
    "control.task_info": ("TaskInfo",),
    "control.task_list": ("TaskPage",),
    "control.task_rows": ("TaskFilter", "TaskRow"),
    "control.unique_locks": ("HolderState", "UniqueLock"),
    "daemon.daemon": ("Daemon",),
    "errors": (
        "AttemptTimeout", "AuthenticationFailed", "BlobStoreError", "CannotListen", "DecodeError",
        "DuplicateTaskType",
        "DurabilityUnknown", "FlowCancelled", "FlowError", "FlowFailed", "IdempotencyConflict",
        "InvalidArguments", "InvalidDependency",
        "InvalidOption", "InvalidTaskId", "InvalidURL", "LeaseLost", "LifespanFailed", "OutcomeUnknown",
        "PayloadError", "ProcessDied", "QueueFull",
        "RateLimited", "RateLimitExceeded",
        "RedisError", "RedisUnavailable", "Refused", "ResultTimeout", "ResultUnavailable", "Retry",
        "ServerError", "ServerFull", "ServerTooOld", "SignalTimeout",
        "StreamQError", "TaskCancelled", "TaskDead",
        "TaskError", "TaskExpired", "UniqueConflict", "UnknownFlow", "UnknownSchedule", "UnknownTaskType",
        "UsageError",
    ),
    "flows.inputs": ("Failure",),
    "flows.reading": ("FlowInfo", "FlowState", "NodeInfo", "NodeKind", "NodeState"),
    "histogram": ("Histogram", "Latency"),
    "hooks": ("Enqueue", "Hook", "TaskEnded", "TaskEndedState"),
    "item": ("Item",),
    "memos": ("Suspension",),
    "model.delivery": ("Delivery", "Success"),
    "model.outcome": ("Outcome",),
    "model.counts": ("COUNTERS", "Counts"),
    "model.task": (
        "CancelAnswer", "IdempotencyKey", "NewTask", "Priority", "SignalAnswer", "State", "TaskId",
    ),
    "options.batch": ("Batch",),
    "options.checks": ("Durability", "Duration", "Executor", "Extra", "LogLevel"),
    "options.lane": ("Lane", "OnDead", "StartRate"),
    "options.rate": ("RateLimit",),
    "options.schedule": ("Cron", "Every", "Misfire", "Overlap", "Schedule"),
    "options.service": ("DaemonOptions", "WorkerOptions"),
    "options.task": ("TaskOptions",),
    "options.typed": ("PerCall", "Policy"),
    "options.unique": ("OnConflict", "Unique", "Until"),
    "payloads.blob_store": ("Blobs", "BlobStore", "ListedBlob"),
    "payloads.compression": ("Compression",),
    "payloads.keyring": ("KeyRing",),
    "probes.listen": ("Listen",),
    "resources.declared": ("DependencyOverrides", "Provider"),
    "resources.depends": ("Depends", "Scope"),
    "resources.lifespan": ("Lifespan",),
    "schedules.state": ("Origin",),
    "supervisor.group": ("WorkerGroup",),
    "telemetry.traces": ("Tracing",),
    "transport.address": ("Address",),
    "worker.worker": ("Worker",),
})  # fmt: skip  # pyright: ignore[reportUnsupportedDunderAll]

_inner, _inner_named = lazy.names(__name__, {
    "app.bound_task": ("Route",),
    "calls.call": ("Call",),
    "control.schedules": ("BoundTask",),
    "environment": ("Source",),
    "model.delivery": ("Overrides",),
    "namespace": ("Namespace",),
    "payloads.keyring": ("Key",),
    "payloads.ring": ("Cipher", "Ring"),
    "probes.health": ("Facts",),
    "probes.report": ("BacklogView", "Report"),
    "registry.handler": ("Handler",),
    "registry.registry": ("Registry",),
    "registry.upcasting": ("MemoUpcaster", "Upcaster", "ValueUpcaster"),
    "telemetry.counters": ("Snapshot",),
    "transport.sync_transport": ("SyncTransport",),
    "worker.assembly": ("Parts",),
    "worker.loading": ("App",),
})  # fmt: skip
"""Types in the annotations of members for streamq's own parts: importable, but without a promise of
stability."""


def __getattr__(name: str) -> object:
    if name == "__version__":
        from streamq.version import package_version  # noqa: PLC0415 - rarely used

        return package_version()
    return _inner_named(name) if name in _inner else _named(name)


def __dir__() -> list[str]:
    return __all__
