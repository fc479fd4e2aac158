"""The lifespan of an app: what it opens when a worker process starts, and closes when it ends.

Owns the declaration, and what its errors say. Must not run by itself: see `opened`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, TypeVar, cast

from streamq.context import get_context
from streamq.errors import UsageError

T_co = TypeVar("T_co", covariant=True)
Function = Callable[..., AsyncIterator[object]] | Callable[..., AbstractAsyncContextManager[object]]


class Lifespan(Generic[T_co]):
    """The lifespan of an app, as `@app.lifespan` returns it. Depend on its value with `Depends(lifespan)`, or
    read `lifespan.state` in a handler."""

    def __init__(self, app: object, function: Function) -> None:
        self.function = function
        self._app = app
        self._enter = _entering(function)

    def __repr__(self) -> str:
        return f"<Lifespan {self.name}>"

    @property
    def name(self) -> str:
        """The function, as `module.name`."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def state(self) -> T_co:
        """The value that it yielded in this process. Raises LookupError outside a handler."""
        return cast("T_co", get_context().state)

    def enter(self) -> AbstractAsyncContextManager[T_co]:
        """Return the context manager of one process."""
        return cast("AbstractAsyncContextManager[T_co]", self._enter(self._app))


def _entering(function: Function) -> Callable[..., AbstractAsyncContextManager[object]]:
    """Return a function that makes the context manager. Raises UsageError for what cannot be a lifespan."""
    named = getattr(function, "__qualname__", None)
    if named is None:
        raise UsageError(f"@app.lifespan: {function!r:.80} is no function: {_FIX}")
    if inspect.isasyncgenfunction(inspect.unwrap(function)):
        _check_call(function, named)
        if inspect.isasyncgenfunction(function):
            return asynccontextmanager(function)
        return cast("Callable[..., AbstractAsyncContextManager[object]]", function)
    kind = "is a coroutine without a yield" if inspect.iscoroutinefunction(function) else "is not async"
    raise UsageError(f"@app.lifespan: {named} {kind}: {_FIX}")


def _check_call(function: Function, named: str) -> None:
    """Raise UsageError unless the function can be called with the app alone."""
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise UsageError(f"@app.lifespan: {named} is called with the app alone ({error}): {_FIX}") from None


_FIX = "write an `async def` that takes the app and has one `yield`"


def wrong_yields(error: BaseException) -> str:
    """Return what is wrong with the yields of a generator, by the error that contextlib raised; else ''."""
    text = str(error) if isinstance(error, RuntimeError) else ""
    if text == "generator didn't yield":
        return "it ended without a yield: yield once, between what it opens and what it closes"
    return "it yields twice: yield once, and close after it" if text == "generator didn't stop" else ""
