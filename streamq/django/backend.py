"""The backend of `django.tasks`: sends tasks to streamq, and reads their results.

Owns the interface that Django calls. Django makes an object for each thread and context, so nothing lives
here: see `home`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import uuid4

from asgiref.sync import sync_to_async
from django.db import transaction

from streamq.app.task_type import TaskType
from streamq.control.task_info import TaskInfo
from streamq.django import results
from streamq.django.checks import check_backend
from streamq.django.django_task import StreamQTask
from streamq.django.home import Home, counted, given, home_of
from streamq.django.names import (
    BaseTaskBackend,
    InvalidTask,
    TaskResult,
    TaskResultDoesNotExist,
    task_enqueued,
)
from streamq.errors import InvalidTaskId
from streamq.model.task import TaskId
from streamq.outbox.row import key_of

KEYED: Final = "@"
"""Stands between the type and the idempotency key in the id of a task that is enqueued on commit."""


class StreamQBackend(BaseTaskBackend):
    """`TASKS = {"default": {"BACKEND": "streamq.django.StreamQBackend", "OPTIONS": {"URL": ...}}}`."""

    task_class = StreamQTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self._params: Mapping[str, Any] = params

    @property
    def home(self) -> Home:
        """The app and the tasks of this alias, for all threads. Raises UsageError for wrong settings."""
        return home_of(self.alias, self._params, self.queues)

    def validate_task(self, task: Any) -> None:
        """Check a task and register its type. Raises InvalidTask."""
        super().validate_task(task)
        self.home.declare(task)

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> TaskResult[Any]:
        """Send a task. In a transaction, with ENQUEUE_ON_COMMIT, when that commits.

        Raises InvalidTask, TypeError for arguments that are not JSON, and what `enqueue` of streamq raises.
        """
        if self._waits_for_commit():
            return self.enqueue_on_commit(task, args, kwargs)
        kind, result = self._prepared(task, args, kwargs)
        handle = kind.enqueue(*result.args, **counted(result.args, result.kwargs))
        return self._sent(result, handle.id)

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> TaskResult[Any]:
        """Send a task, as `enqueue` does, from an event loop."""
        if self.home.settings.on_commit is not None:
            return await sync_to_async(self.enqueue)(task, args, kwargs)
        kind, result = self._prepared(task, args, kwargs)
        handle = await kind.aenqueue(*result.args, **counted(result.args, result.kwargs))
        object.__setattr__(result, "id", handle.id)
        results.enqueued(result, _accepted_ms(handle.id))
        await task_enqueued.asend_robust(type(self), task_result=result)
        return result

    def enqueue_on_commit(
        self, task: Any, args: Any, kwargs: Any, database: str | None = None
    ) -> TaskResult[Any]:
        """Send a task when the database's open transaction commits; now, if there is none.

        The result has an id at once, by the idempotency key of the call: until COMMIT, `get_result` finds no
        task.
        """
        if self.home.settings.outbox:
            return self._by_outbox(task, args, kwargs, database)
        using = database or self.home.settings.on_commit or "default"
        if not transaction.get_connection(using).in_atomic_block:
            kind, result = self._prepared(task, args, kwargs)
            return self._sent(result, kind.enqueue(*result.args, **counted(result.args, result.kwargs)).id)
        key = getattr(task, "options", {}).get("idempotency_key") or f"commit-{uuid4().hex}"
        kind, result = self._prepared(task, args, kwargs, idempotency_key=key)
        bound = kind.bind(*result.args, **counted(result.args, result.kwargs))
        object.__setattr__(result, "id", f"{kind.name}{KEYED}{key}")
        app = self.home.app

        def send() -> None:
            [handle] = app.enqueue_many([bound])
            results.enqueued(result, _accepted_ms(handle.id))
            task_enqueued.send_robust(type(self), task_result=result)

        transaction.on_commit(send, using=using, robust=True)
        return result

    def _by_outbox(self, task: Any, args: Any, kwargs: Any, database: str | None) -> TaskResult[Any]:
        """Write a task as a row of the open transaction, which its commit sends; or else the relay."""
        from streamq.django.outbox.store import DjangoOutbox  # noqa: PLC0415 - its model needs the apps

        outbox = DjangoOutbox(self.alias, database or self.home.settings.on_commit)
        kind, result = self._prepared(task, args, kwargs)
        bound = kind.bind(*result.args, **counted(result.args, result.kwargs))
        row = outbox.write(self.home.app, bound)
        key = getattr(task, "options", {}).get("idempotency_key") or key_of(row)
        object.__setattr__(result, "id", f"{kind.name}{KEYED}{key}")

        def send() -> None:
            outbox.send_now([row])
            task_enqueued.send_robust(type(self), task_result=result)

        transaction.on_commit(send, using=outbox.database, robust=True)
        return result

    def get_result(self, result_id: str) -> TaskResult[Any]:
        """Return a task by its id. Raises TaskResultDoesNotExist."""
        app, (task, keyed) = self.home.app, self._named(result_id)
        if keyed:
            handle = app.find(*_key_of(result_id)[:1], key=_key_of(result_id)[1]).handle()
            if handle is None:
                raise _missing(result_id)
            return _found(task, app.inspector.task(handle.id), result_id)
        return _found(task, app.inspector.task(result_id), result_id)

    async def aget_result(self, result_id: str) -> TaskResult[Any]:
        """Return a task, as `get_result` does, from an event loop."""
        app, (task, keyed) = self.home.app, self._named(result_id)
        if keyed:
            handle = await app.find(*_key_of(result_id)[:1], key=_key_of(result_id)[1]).ahandle()
            if handle is None:
                raise _missing(result_id)
            return _found(task, await app.ainspector.task(handle.id), result_id)
        return _found(task, await app.ainspector.task(result_id), result_id)

    def check(self, **kwargs: Any) -> Iterable[Any]:  # noqa: ARG002 - as Django calls it
        """Return what is wrong with the settings, for `manage.py check`. Asks no server."""
        yield from check_backend(self.alias, self._params)

    def _waits_for_commit(self) -> bool:
        database = self.home.settings.on_commit
        return database is not None and transaction.get_connection(database).in_atomic_block

    def _prepared(
        self, task: Any, args: Any, kwargs: Any, **more: Any
    ) -> tuple[TaskType[Any, Any, Any], TaskResult[Any]]:
        """Check a call; return its type with the options, and its result without an id."""
        self.validate_task(task)
        if task.func.__module__ == "__main__":
            raise InvalidTask(
                f"{task.func.__qualname__} is defined in the program itself, which no worker can import: "
                "move it to a module, such as the tasks.py of an app"
            )
        listed, named = given(args, kwargs)
        return self.home.prepared(task, **more), results.new_result(task, "", listed, named)

    def _sent(self, result: TaskResult[Any], task_id: str) -> TaskResult[Any]:
        object.__setattr__(result, "id", task_id)
        results.enqueued(result, _accepted_ms(task_id))
        task_enqueued.send_robust(type(self), task_result=result)
        return result

    def _named(self, result_id: str) -> tuple[Any, bool]:
        """Return the task that an id names, and whether it names it by a key. Raises
        TaskResultDoesNotExist."""
        name, key = _key_of(result_id)
        task = self.home.find(name)
        if task is None:
            raise _missing(result_id)
        return task, key != ""


def _key_of(result_id: str) -> tuple[str, str]:
    """Return the type that an id names, and the key; '' if it names no key. Raises TaskResultDoesNotExist."""
    try:
        return TaskId.parse(result_id).type, ""
    except InvalidTaskId:
        name, _, key = str(result_id).partition(KEYED)
        if not key:
            raise _missing(result_id) from None
        return name, key


def _missing(result_id: object) -> TaskResultDoesNotExist:
    return TaskResultDoesNotExist(f"there is no task {str(result_id)[:120]!r}, or its result was not kept")


def _found(task: Any, info: TaskInfo, result_id: str) -> TaskResult[Any]:
    found = results.result_of(task, info, result_id)
    if found is None:
        raise _missing(result_id)
    return found


def _accepted_ms(task_id: str) -> int:
    """Return when a task was accepted; for one that began in the schedule, about now."""
    import time  # noqa: PLC0415

    local = TaskId.parse(task_id).local
    return round(time.time() * 1000) if local[0] == "d" else int(local[1:].partition("-")[0])
