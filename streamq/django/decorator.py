"""The decorator `task`, typed: that of django.tasks with streamq's options.

Owns nothing else. The decorator of Django 6.0 takes no further keywords, and no type checker knows them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import (
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    overload,
)

from streamq.django.django_task import StreamQTask
from streamq.django.names import InvalidTask, TaskContext, task_backends
from streamq.options.typed import PolicyOfAny

P = ParamSpec("P")
T = TypeVar("T")


class Decorator(Protocol):
    """Takes a module-level function."""

    def __call__(self, function: Callable[P, T], /) -> StreamQTask[P, T]: ...


class ContextDecorator(Protocol):
    """Takes a module-level function whose first parameter is `context`."""

    def __call__(self, function: Callable[Concatenate[TaskContext, P], T], /) -> StreamQTask[P, T]: ...


@overload
def task(function: Callable[P, T], /) -> StreamQTask[P, T]: ...
@overload
def task(
    *,
    priority: int = 0,
    queue_name: str = "default",
    backend: str = "default",
    takes_context: Literal[False] = False,
    **policy: Unpack[PolicyOfAny],
) -> Decorator: ...
@overload
def task(
    *,
    priority: int = 0,
    queue_name: str = "default",
    backend: str = "default",
    takes_context: Literal[True],
    **policy: Unpack[PolicyOfAny],
) -> ContextDecorator: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    priority: int = 0,
    queue_name: str = "default",
    backend: str = "default",
    takes_context: bool = False,
    **policy: Unpack[PolicyOfAny],
) -> Any:
    """Make a module-level function a Django task with streamq's options.

    priority: -100 to 100; above 0 is `high`, below 0 `low`. queue: another word for `queue_name`.
    takes_context: its first parameter is `context`. A task of django.tasks is one call: it has no `batch`.
    Where another backend is set, such as that of tests, it is a plain task and the options do not count.
    Raises InvalidTask and InvalidOption, at import.
    """

    def register(found: Callable[..., Any]) -> Any:
        kind: Any = task_backends[backend].task_class
        stated: Any = policy if issubclass(kind, StreamQTask) else {}
        return kind(
            func=found, priority=priority, queue_name=queue_name, backend=backend,
            takes_context=takes_context, run_after=None, **stated,
        )  # fmt: skip

    if function is None:
        return register
    if not callable(function):
        raise InvalidTask(f"@task is given {function!r:.80}: write @task above a function")
    return register(function)
