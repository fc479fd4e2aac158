"""Keeps what an app would send, without a server, for tests of the code that enqueues.

Owns the clients that record in place of those that send. Every call is checked, encoded and decoded again as
on its way to a worker; nothing runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from streamq.calls.call import AnyCall
from streamq.errors import UsageError
from streamq.flow import Ask, Flow
from streamq.model.task import Accepted, Answer, Conflict, Duplicate, IdempotencyKey, NewTask, Priority
from streamq.options.checks import Durability, seconds
from streamq.registry.handler import Handler
from streamq.registry.registry import Registry
from streamq.shards import AppRecord

if TYPE_CHECKING:
    from streamq.app.app import StreamQ
    from streamq.app.task_type import TaskType

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class SentTask:
    """A task that would have been sent.

    arguments: by name, as the handler would be called with them. delay: seconds, 0 for now; None if it has a
    due time (`at_ms`). idempotency_key: None without one.
    """

    type: str
    arguments: dict[str, object]
    priority: Priority = "normal"
    delay: float | None = 0.0
    at_ms: int | None = None
    idempotency_key: str | None = None
    durability: Durability = "master"


@dataclass
class Recording:
    """What was sent, in its order. Iterate over it, or assert on it. keys: the first task of each idempotency
    key."""

    tasks: list[SentTask] = field(default_factory=list[SentTask])
    keys: dict[str, tuple[IdempotencyKey, str]] = field(default_factory=dict[str, tuple[IdempotencyKey, str]])

    def __iter__(self) -> Iterator[SentTask]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def of(self, task_type: TaskType[..., Any, Any] | str, **expected: object) -> list[SentTask]:
        """Return the tasks of a type that have these arguments and options.

        Options are the fields of SentTask; a name that is an argument of the handler is taken for that.
        delay may be a duration such as "5m".
        """
        name = task_type if isinstance(task_type, str) else task_type.name
        return [task for task in self.tasks if task.type == name and _matches(task, expected)]

    def assert_one(self, task_type: TaskType[..., Any, Any] | str, **expected: object) -> SentTask:
        """Return the one task that matches, as `of` does. Raises AssertionError that lists what was sent."""
        found = self.of(task_type, **expected)
        if len(found) != 1:
            raise AssertionError(
                self._difference(task_type, expected, f"1 task expected, {len(found)} found")
            )
        return found[0]

    def assert_none(self, task_type: TaskType[..., Any, Any] | str, **expected: object) -> None:
        """Raise AssertionError if a task matches, as `of` does."""
        if found := self.of(task_type, **expected):
            raise AssertionError(
                self._difference(task_type, expected, f"no task expected, {len(found)} found")
            )

    def _difference(
        self, task_type: TaskType[..., Any, Any] | str, expected: dict[str, object], said: str
    ) -> str:
        name = task_type if isinstance(task_type, str) else task_type.name
        wanted = ", ".join(f"{key}={value!r}" for key, value in expected.items())
        sent = "\n".join(f"  {task}" for task in self.tasks) or "  nothing"
        return f"{said} {name}({wanted}). Sent:\n{sent}"


def _matches(task: SentTask, expected: dict[str, object]) -> bool:
    return all(_is(task, name, value) for name, value in expected.items())


def _is(task: SentTask, name: str, value: object) -> bool:
    if name in task.arguments:
        return task.arguments[name] == value
    if name == "delay" and isinstance(value, int | float | str):
        return task.delay == seconds(value, "delay")
    return getattr(task, name, None) == value and name in SentTask.__slots__


class _Recorder:
    """Takes the place of a client, sync or async."""

    def __init__(self, registry: Registry, recording: Recording) -> None:
        self._registry, self._recording = registry, recording
        self._turn = count()

    def next_shard(self) -> int:
        """Return the next shard in turn."""
        return next(self._turn) % self._registry.shards

    def record(
        self, task_type: str, tasks: Sequence[NewTask], durability: Durability = "master"
    ) -> list[Answer]:
        """Record tasks of one type; return an answer for each."""
        return [self._record(task_type, task, durability) for task in tasks]

    def _record(self, task_type: str, task: NewTask, durability: Durability) -> Answer:
        local = f"n{len(self._recording.tasks) + 1}-0"
        if task.key is not None:
            first = self._recording.keys.setdefault(task.key.name, (task.key, f"{task_type}:{local}"))
            if first[0].digest != task.key.digest:
                return Conflict(first[1])
            if first[1] != f"{task_type}:{local}":
                return Duplicate(first[1].partition(":")[2])
        delay = None if task.absolute else (task.due or 0) / 1000
        self._recording.tasks.append(
            SentTask(
                task_type, self._arguments(task_type, task.payload), task.priority, delay,
                task.due if task.absolute else None, task.key.name if task.key else None, durability,
            )
        )  # fmt: skip
        return Accepted(local)

    def _arguments(self, task_type: str, payload: bytes) -> dict[str, object]:
        handler = self._registry.handlers.get(task_type)
        if handler is None:
            import orjson  # noqa: PLC0415 - of a task whose handler is elsewhere

            found: dict[str, object] = orjson.loads(payload)
            return found
        return _by_name(handler, payload)

    def answer(self, flow: Flow[R]) -> R:
        """Carry out the flow that finds the shard of a key: no shard knows it."""
        try:
            step = next(flow)
            while True:
                step = flow.send(self._reply(step.call) if isinstance(step, Ask) else None)
        except StopIteration as end:
            result: R = end.value
            return result

    def _reply(self, call: AnyCall) -> AppRecord | None:
        shards = self._registry.shards
        named = call.script.name if call.script is not None else ""
        return AppRecord(shards, shards) if named == "announce" else None

    def __getattr__(self, name: str) -> NoReturn:
        raise UsageError("tasks are recorded, not sent: there is no server to ask. Use streamq.testing.Queue")


class _SyncRecorder(_Recorder):
    def enqueue(
        self, task_type: str, _shard: int, tasks: Sequence[NewTask], durability: Durability = "master"
    ) -> list[Answer]:
        """Record tasks of one type."""
        return self.record(task_type, tasks, durability)

    def drive(self, flow: Flow[R]) -> R:
        """Carry a flow out."""
        return self.answer(flow)


class _AsyncRecorder(_Recorder):
    async def enqueue(
        self, task_type: str, _shard: int, tasks: Sequence[NewTask], durability: Durability = "master"
    ) -> list[Answer]:
        """Record tasks of one type."""
        return self.record(task_type, tasks, durability)

    async def drive(self, flow: Flow[R]) -> R:
        """Carry a flow out."""
        return self.answer(flow)

    def current(self) -> _AsyncRecorder:
        """Return the client of the running loop: there is one."""
        return self


def _by_name(handler: Handler, payload: bytes) -> dict[str, object]:
    args, kwargs = handler.sent_arguments(payload)
    bound = inspect.signature(handler.function).bind(*args, **kwargs)
    return dict(bound.arguments)


@contextmanager
def recording(app: StreamQ) -> Generator[Recording]:
    """Record what is sent with an app in this block, and send nothing."""
    found = Recording()
    registry, record, at = app.registry, app.registry.record, app.registry.record_at
    sync, looping = _SyncRecorder(registry, found), _AsyncRecorder(registry, found)
    with app._enqueuer.using(sync, looping):  # type: ignore[arg-type]  # pyright: ignore[reportPrivateUsage, reportArgumentType]  # noqa: SLF001
        yield found
    registry.record, registry.record_at = record, at
