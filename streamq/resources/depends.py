"""The marker of a dependency: a parameter whose value the worker provides.

Owns the marker, and reads those of FastAPI and taskiq by their shape. Must not call a dependency.

It is our own because two libraries were read and do not fit. uncalled-for (0.6) enters every dependency on an
event loop, so a sync session would not be opened in the thread of its `def` handler; it has no replacements
for tests. fast-depends (3.0) casts the arguments of the call itself, runs sync generators in threads of its
own, refuses async dependencies of sync functions, and knows no scope but the call. Neither can say at import
that a dependency needs a request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Final, Literal, TypeVar, cast, overload

from streamq.errors import InvalidDependency
from streamq.resources.lifespan import Lifespan

T = TypeVar("T")
Scope = Literal["attempt", "process"]
SCOPES: Final = ("attempt", "process")
_FOREIGN: Final = ("fastapi", "taskiq_dependencies", "taskiq")
"""The packages whose markers are read."""


class Dependency:
    """The marker. dependency: what makes the value; None: the class in the annotation. scope: None: that of
    what needs it, and of an attempt for a handler. cached: one value for all that need it."""

    __slots__ = ("cached", "dependency", "scope")

    def __init__(
        self,
        dependency: Callable[..., object] | Lifespan[object] | None,
        scope: Scope | None,
        *,
        cached: bool,
    ) -> None:
        self.dependency: Callable[..., object] | Lifespan[object] | None = dependency
        self.cached: bool = cached
        self.scope: Scope | None = scope

    def __repr__(self) -> str:
        return f"Depends({getattr(self.dependency, '__qualname__', repr(self.dependency))})"


@overload
def Depends(dependency: Lifespan[T], /, *, scope: Scope | None = None, use_cache: bool = True) -> T: ...
@overload
def Depends(
    dependency: Callable[..., AbstractAsyncContextManager[T] | AbstractContextManager[T]], /, *,
    scope: Scope | None = None, use_cache: bool = True,
) -> T: ...  # fmt: skip
@overload
def Depends(
    dependency: Callable[..., AsyncIterator[T] | Iterator[T]], /, *,
    scope: Scope | None = None, use_cache: bool = True,
) -> T: ...  # fmt: skip
@overload
def Depends(
    dependency: Callable[..., Awaitable[T]], /, *, scope: Scope | None = None, use_cache: bool = True
) -> T: ...
@overload
def Depends(dependency: Callable[..., T], /, *, scope: Scope | None = None, use_cache: bool = True) -> T: ...
def Depends(  # noqa: N802 - the word that FastAPI, taskiq and docket use
    dependency: Callable[..., object] | Lifespan[object],
    /,
    *,
    scope: Scope | None = None,
    use_cache: bool = True,
) -> Any:
    """Mark a parameter as a dependency: `db: Session = Depends(session)`. The worker calls `session` and
    passes what it returns or yields.

    scope: "attempt" makes a value for each attempt and ends it before the task is settled; "process" makes
    one when the worker starts. Default: the scope of the dependency that needs it, "attempt" for a handler.
    use_cache: share the value with all that need the same dependency in this attempt.
    """
    if scope is not None and scope not in SCOPES:
        raise InvalidDependency(f"Depends(scope={scope!r}): must be one of {', '.join(SCOPES)}")
    if scope == "process" and not use_cache:
        raise InvalidDependency("Depends(scope='process'): there is one value a process: leave out use_cache")
    if not callable(dependency) and not isinstance(dependency, Lifespan):
        raise InvalidDependency(f"Depends({dependency!r:.80}): must be a function, a class or a lifespan")
    return Dependency(dependency, scope, cached=use_cache)


def marker(value: object) -> Dependency | None:
    """Return the marker that this default or annotation is; None if it is none."""
    if isinstance(value, Dependency):
        return value
    kind = type(value)
    if kind.__module__.partition(".")[0] not in _FOREIGN or not hasattr(value, "dependency"):
        return None
    return _foreign(value)


def _foreign(value: Any) -> Dependency:
    """Return a marker of FastAPI or taskiq as ours. Raises InvalidDependency for what it asks in vain."""
    for name in ("kwargs", "scopes", "max_concurrency"):
        if getattr(value, name, None):
            raise InvalidDependency(
                f"{value!r:.120}: {name} of {type(value).__module__} has no meaning in a worker: write "
                "streamq's Depends(...) without it"
            )
    found = cast("Callable[..., object] | None", value.dependency)
    return Dependency(found, None, cached=bool(getattr(value, "use_cache", True)))
