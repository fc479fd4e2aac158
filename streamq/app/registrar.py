"""The decorator `task`, with its types: of an app, and of a set of task types.

Owns how a function becomes a handler. Where the handler is kept is up to the subclass.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from streamq.app.task_type import AnyTaskType, Coro, Decorator, TaskType
from streamq.errors import InvalidOption
from streamq.options.task import task_options
from streamq.registry.handler import Handler

if TYPE_CHECKING:
    from streamq.options.typed import Policy

P = ParamSpec("P")
R = TypeVar("R")


class Registrar:
    """Registers handlers."""

    def _register(self, handler: Handler) -> AnyTaskType:
        """Keep a handler and return its task type."""
        raise NotImplementedError

    @overload
    def task(self, function: Callable[P, Coro[R]], /) -> TaskType[P, R, Coro[R]]: ...
    @overload
    def task(self, function: Callable[P, Awaitable[R]], /) -> TaskType[P, R, Awaitable[R]]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> TaskType[P, R, R]: ...
    @overload
    def task(self, /, *, name: str | None = None, **policy: Unpack[Policy]) -> Decorator: ...

    def task(self, function: object = None, /, *, name: str | None = None, **policy: object) -> object:
        """Register a handler: `@app.task` or `@app.task(max_attempts=4, timeout=30, ...)`.

        The type's name is the function's unless `name` is given. Raises InvalidOption and
        DuplicateTaskType, at import.
        """
        options = task_options(policy)

        def register(fn: Any) -> Any:
            if isinstance(fn, TaskType):
                raise InvalidOption(f"{fn!r} is a task type already: put one @task above the function")
            return self._register(Handler(_name_of(fn) if name is None else name, fn, options, policy))

        return register if function is None else register(function)


def _name_of(function: object) -> str:
    """Return the name of a function. Raise InvalidOption if it has none, as a lambda or a partial."""
    found: str = getattr(function, "__name__", "")
    if callable(function) and found in ("", "<lambda>"):
        kind = "a lambda" if found else f"a {type(function).__name__} object"
        raise InvalidOption(f"{kind} has no name to be the task type's: pass it, @app.task(name=...)")
    return found
