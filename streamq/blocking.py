"""Refuses plain calls that would stop the event loop that they are made in.

Owns the rule. In an `async def` handler each of them is refused, as its loop serves a worker. Elsewhere only
waits for what has not ended are, as they can last for ever; not in a notebook, whose cells run in a loop that
has nothing else to do, but where that loop runs a worker too.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

from streamq.context import CURRENT
from streamq.errors import UsageError

SERVING: weakref.WeakSet[Any] = weakref.WeakSet()
"""The event loops in which a worker runs."""


def refuse(call: str, instead: str, *, waits: bool = False) -> None:
    """Raise UsageError where the call would stop an event loop. `instead`: what to write."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return  # nobody has a loop
    loop = asyncio._get_running_loop()  # noqa: SLF001 - without an exception where there is none
    if loop is None:
        return
    if CURRENT.get(None) is not None:
        raise UsageError(
            f"{call} would stop the event loop of the handler that calls it, and its worker with it: "
            f"write {instead}"
        )
    if waits and (loop in SERVING or "ipykernel" not in sys.modules):
        raise UsageError(
            f"{call} would stop the event loop that runs in this thread until the task has ended: "
            f"write {instead}"
        )
