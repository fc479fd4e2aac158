"""Tells how a function makes its value: it returns it, awaits it, or yields it once.

Owns that reading, for dependencies and for hooks. Must not call the function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Literal

Kind = Literal["value", "awaited", "sync", "async"]
"""How a value is made: returned, awaited, or yielded by a generator."""


def made(function: Callable[..., Any]) -> tuple[Kind, Callable[..., Any]]:
    """Return how a function makes its value, and the function that makes it or its context manager."""
    inner = called(function)
    if inspect.isasyncgenfunction(inner):
        return "async", asynccontextmanager(function)
    if inspect.isgeneratorfunction(inner):
        return "sync", contextmanager(function)
    wrapped = inspect.unwrap(inner)
    if wrapped is not inner and inspect.isasyncgenfunction(wrapped):
        return "async", function
    if wrapped is not inner and inspect.isgeneratorfunction(wrapped):
        return "sync", function
    return ("awaited" if inspect.iscoroutinefunction(inner) else "value"), function


def called(function: Any) -> Any:
    """Return the function that a call runs: of a partial or an object, the one inside."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return type(function).__call__
