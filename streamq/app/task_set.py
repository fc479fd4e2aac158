"""Task types of a package that knows no app: `@tasks.task`, and later `app.include(tasks)`.

Owns the types until an app includes them. A set belongs to one app: its types send there.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import NoReturn, TypeVar

from streamq.app.bound_task import Bound
from streamq.app.enqueuer import Enqueuer
from streamq.app.handle import TaskHandle
from streamq.app.registrar import Registrar
from streamq.app.task_type import AnyTaskType, TaskType
from streamq.errors import DuplicateTaskType, UsageError
from streamq.registry.handler import Handler
from streamq.registry.redefinition import current_run
from streamq.registry.registry import Registry

R = TypeVar("R")


class _Later:
    """Sends through the enqueuer of the app that has included the set."""

    def __init__(self) -> None:
        self.enqueuer: Enqueuer | None = None

    def enqueue(self, bound: Bound[R]) -> TaskHandle[R]:
        """Send one call."""
        return (self.enqueuer or _refuse(bound)).enqueue(bound)

    def aenqueue(self, bound: Bound[R]) -> Coroutine[object, None, TaskHandle[R]]:
        """Send one call from an event loop."""
        return (self.enqueuer or _refuse(bound)).aenqueue(bound)


def _refuse(bound: Bound[object]) -> NoReturn:
    raise UsageError(
        f"task type {bound.handler.name!r} is of a TaskSet that no app has included: call app.include(tasks)"
    )


class TaskSet(Registrar):
    """Task types for an app to include: for packages that several programs use."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._sends = _Later()
        self._app = ""

    def __repr__(self) -> str:
        where = f"of app {self._app!r}" if self._app else "of no app yet"
        return f"<TaskSet of {len(self._handlers)} task types, {where}>"

    def _register(self, handler: Handler) -> AnyTaskType:
        if self._app:
            raise UsageError(
                f"task type {handler.name!r}: app {self._app!r} has already included this TaskSet: include "
                "it after all its types are defined"
            )
        if handler.name in self._handlers:
            raise DuplicateTaskType(
                f"the TaskSet already has a task type {handler.name!r}: give {handler.reference} another "
                "name with @tasks.task(name=...)"
            )
        self._handlers[handler.name] = handler
        return TaskType(self._sends, handler)

    def _include(self, registry: Registry, enqueuer: Enqueuer, prefix: str) -> None:
        """Register the types in an app, for `StreamQ.include`."""
        if self._app:
            raise UsageError(
                f"{self!r}: a set belongs to one app. Make the TaskSet in a function that each app calls"
            )
        for name, handler in self._handlers.items():
            handler.rename(prefix + name)  # not its present name: an attempt before may have failed half way
            registry.add(handler)
        run = current_run()
        if run is not None:
            registry.resources.defined_in(run.name)
        self._app, self._sends.enqueuer = registry.name, enqueuer
