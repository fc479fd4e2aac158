"""Refuses plain calls that would stop the event loop that they are made in.

Owns the rule: where a loop runs in this thread, in an `async def` handler, an endpoint of a web framework or
a notebook's cell, calls that ask or wait are refused, and the error names what to await instead. `enqueue`
and `send` are let through: they end with one round trip.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TypeVar

from streamq.context import CURRENT
from streamq.errors import UsageError

C = TypeVar("C", bound=type)


def refuse(call: str, instead: str) -> None:
    """Raise UsageError where an event loop runs in this thread. `instead`: what to write."""
    if not loop_runs():
        return
    whose = "that runs in this thread, and all that it serves"
    if CURRENT.get(None) is not None:
        whose = "of the handler that calls it, and its worker with it"
    raise UsageError(f"{call} would stop the event loop {whose}: write {instead}")


def loop_runs() -> bool:
    """Whether an event loop runs in this thread."""
    asyncio = sys.modules.get("asyncio")  # who has not loaded it has no loop
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 - it raises nothing


def plain(name: str) -> Callable[[C], C]:
    """Have the public methods of a class refused where an event loop runs; `name` is what the class is called
    there. They have no async twins, but may be called in a thread."""

    def refusing(cls: C) -> C:
        for method, function in list(vars(cls).items()):
            if not method.startswith("_") and callable(function):
                setattr(cls, method, _refused(f"{name}.{method}", function))
        return cls

    return refusing


def _refused(call: str, function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def asked(*args: object, **kwargs: object) -> object:
        refuse(f"{call}()", f"await asyncio.to_thread({call}, …)")
        return function(*args, **kwargs)

    return asked
