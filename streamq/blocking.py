"""Refuses blocking calls in a thread whose event loop is running.

Owns the rule: in an `async def` handler, an endpoint of a web framework or a notebook cell, calls that query
or wait are refused, and the error names what to await instead. `enqueue` and `send` are allowed: they take
one round trip. Must not import asyncio.
"""

from __future__ import annotations

import sys

from streamq.context import CURRENT
from streamq.errors import UsageError


def refuse(call: str, instead: str) -> None:
    """Raise UsageError if an event loop runs in this thread. instead: what to write."""
    if not loop_runs():
        return
    whose = "that runs in this thread, and all its tasks"
    if CURRENT.get(None) is not None:
        whose = "of the handler that calls it, and its worker"
    raise UsageError(f"{call} would block the event loop {whose}: write {instead}")


def loop_runs() -> bool:
    """Return whether an event loop runs in this thread."""
    asyncio = sys.modules.get("asyncio")  # without the module there is no loop
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 - unlike the public one it does not raise
