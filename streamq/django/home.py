"""The app behind a backend: one for each alias of TASKS, with a task type for each Django task.

Owns the apps, which live as long as the process: Django makes a backend object for each thread and context.
Sends nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.utils import timezone

from streamq.app.app import StreamQ
from streamq.app.task_type import TaskType
from streamq.django import attempts, calls
from streamq.django.connections import DjangoConnections
from streamq.django.names import InvalidTask, normalize_json, task_backends
from streamq.django.settings import BackendSettings, parse
from streamq.errors import InvalidOption
from streamq.model.task import NAME_PATTERN, Priority
from streamq.options.table import POLICY
from streamq.options.task import task_options

WORKER: Final = "streamq.django.worker"
"""The module that a worker, and each of its child processes, imports first: it sets Django up."""


class Home:
    """The app of one backend, and its tasks by their paths. queues: of the backend; empty for any."""

    def __init__(self, alias: str, settings: BackendSettings, queues: Iterable[str]) -> None:
        self.alias: str = alias
        self.settings: BackendSettings = settings
        self.queues: frozenset[str] = frozenset(queues)
        self.connections: DjangoConnections = DjangoConnections()
        self.app: StreamQ = StreamQ(
            settings.app, settings.url, shards=settings.shards, patience=settings.patience,
            prefix=settings.prefix, hooks=[self.connections, *settings.hooks],
        )  # fmt: skip
        self.app.registry.resources.defined_in(WORKER)
        self.connections.registry = self.app.registry
        self.tasks: dict[str, Any] = {}
        self._types: dict[str, TaskType[Any, Any, Any]] = {}
        self._lock = threading.RLock()
        from streamq.django.ends import listen  # noqa: PLC0415 - it needs the homes

        listen(self)

    def declare(self, task: Any) -> None:
        """Register a task's type, unless it is. Raises InvalidTask."""
        path = task.module_path
        with self._lock:
            known = self.tasks.get(path)
            if known is not None and known.func is task.func:
                return
            if known is not None:
                self._forget(path)
            try:
                self._register(calls.type_name(path), task)
            except (InvalidOption, TypeError) as error:
                raise InvalidTask(f"task {path}: {error}") from error
            self.tasks[path] = task

    def _register(self, name: str, task: Any) -> TaskType[Any, Any, Any]:
        signature = calls.call_signature(task.func, takes_context=task.takes_context)
        stated = {**dict(self.settings.defaults), **getattr(task, "policy", {})}
        policy = {**stated, "priority": priority_of(task.priority)}
        if "queue" in POLICY and NAME_PATTERN.fullmatch(task.queue_name):
            policy["queue"] = task.queue_name  # for `streamq worker --queues`

        def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = _flat(stored, args, kwargs)
            attempt = attempts.begin(task, handler, *calls.split(signature, given))
            return attempts.arun(task, attempt) if handler.is_async else attempts.run(task, attempt)

        stored = calls.stored_signature(signature)
        handler = calls.handler_of(name, task.func, run, signature, task_options(policy), policy)
        found = self.app._register(handler)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001 - as the decorator
        self._types[name] = found
        return found

    def _forget(self, path: str) -> None:
        """Forget a task whose module was loaded again."""
        base = calls.type_name(path)
        for name in [one for one in self._types if one == base or one.startswith(f"{path}--")]:
            del self._types[name], self.app.registry.handlers[name]

    def handler(self, task: Any) -> Any:
        """Return the handler of a task on its queue."""
        return self.type(task).handler

    def type(self, task: Any) -> TaskType[Any, Any, Any]:
        """Return the task type of a task on its queue. Raises InvalidTask for a queue without workers."""
        self.declare(task)
        path = task.module_path
        own = self.tasks[path]
        if task.queue_name == own.queue_name:
            return self._types[calls.type_name(path)]
        if task.queue_name not in self.known_queues():
            raise InvalidTask(
                f"no worker serves queue {task.queue_name!r}: name it in TASKS[{self.alias!r}]['QUEUES'], or "
                "in the @task(queue_name=...) of a task"
            )
        name = calls.type_name(path, task.queue_name)
        with self._lock:
            return self._types.get(name) or self._register(name, _on_queue(own, task.queue_name))

    def known_queues(self) -> frozenset[str]:
        """Return the queues that workers serve: those of the settings, else those that tasks name."""
        return self.queues or frozenset(task.queue_name for task in self.tasks.values())

    def complete(self) -> None:
        """Register each task on each queue, for a worker: a call may choose another queue than the task's."""
        for task in list(self.tasks.values()):
            for queue in sorted(self.known_queues()):
                self.type(_on_queue(task, queue))

    def types_of(self, queues: Iterable[str]) -> list[str]:
        """Return the task types of these queues. Raises InvalidOption for one that does not exist."""
        wanted, known = list(queues), self.known_queues()
        if wrong := [one for one in wanted if one not in known]:
            raise InvalidOption(f"there is no queue {wrong[0]!r}: TASKS has {', '.join(sorted(known))}")
        self.complete()
        tasks = list(self.tasks.values())
        return sorted({self.type(_on_queue(task, queue)).name for task in tasks for queue in wanted})

    def prepared(self, task: Any, **more: Any) -> TaskType[Any, Any, Any]:
        """Return the task type with the options of a call. more: options that the backend adds."""
        kind = self.type(task)
        options = {**getattr(task, "options", {}), **more}
        if (priority := priority_of(task.priority)) != kind.handler.options.priority:
            options["priority"] = priority
        if (at := task.run_after) is not None:
            options["at"] = at if timezone.is_aware(at) else timezone.make_aware(at)
        return kind.options(**options) if options else kind

    def find(self, task_type: str) -> Any:
        """Return the task of a type, on its queue; None if this program has none."""
        for path, task in list(self.tasks.items()):
            if calls.type_name(path) == task_type:
                return task
            for queue in self.known_queues():
                if calls.type_name(path, queue) == task_type:
                    return _on_queue(task, queue)
        return None


def given(args: Iterable[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return a call's arguments as django.tasks passes them on: plain JSON data. Raises TypeError."""
    return normalize_json(list(args)), normalize_json(dict(kwargs))


def counted(args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments by name of a call whose others are by position, with the number of these."""
    return {**kwargs, calls.POSITIONAL: len(args)} if args else kwargs


def priority_of(priority: int) -> Priority:
    """Return our priority for one of django.tasks."""
    return "high" if priority > 0 else "low" if priority < 0 else "normal"


def _on_queue(task: Any, queue: str) -> Any:
    return task if task.queue_name == queue else task.using(queue_name=queue)


def _flat(signature: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return dict(signature.bind(*args, **kwargs).arguments)


_HOMES: Final[dict[str, tuple[object, Home]]] = {}
_LOCK: Final = threading.Lock()


def home_of(alias: str, params: Mapping[str, Any], queues: Iterable[str]) -> Home:
    """Return the home of a backend; a new one if its settings have changed, as in a test."""
    wanted = (params.get("OPTIONS"), frozenset(queues))
    with _LOCK:
        known = _HOMES.get(alias)
        if known is not None and known[0] == wanted:
            return known[1]
        made = Home(alias, parse(alias, params.get("OPTIONS", {})), queues)
        _HOMES[alias] = (wanted, made)
        return made


def get_app(alias: str = "default") -> StreamQ:
    """Return the streamq app of a backend: for handles, the inspector, and task types beside Django's.

    Raises InvalidOption if TASKS has another backend under this alias.
    """
    backend: Any = task_backends[alias]
    home = getattr(backend, "home", None)
    if not isinstance(home, Home):
        raise InvalidOption(
            f"TASKS[{alias!r}] is {type(backend).__name__}, not streamq's: set its BACKEND to "
            "'streamq.django.StreamQBackend'"
        )
    return home.app
