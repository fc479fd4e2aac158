"""What the worker does with the context of a running handler.

Owns the reading and writing of what is none of the handler's business. Must not run anything.
"""

from __future__ import annotations

from typing import Any, TypeVar

from streamq.context import CURRENT, Context
from streamq.context_protocols import Home

S = TypeVar("S")


def end(context: Context) -> list[object]:
    """Take the follow-ups of an attempt whose handler has returned: from now on it gets no more."""
    context._ended = True  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    return context._follow_ups or []  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def in_flow() -> bool:
    """Return whether the running task is a node of a flow; True where none runs."""
    context = CURRENT.get(None)
    return context is None or bool(getattr(context._task, "node", True))  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def stepped(context: Context) -> bool:
    """Return whether an attempt made steps, so that its task may have memos."""
    return context._steps is not None  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def drain(context: Context) -> None:
    """Let an attempt know that its worker stops."""
    context._draining = True  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


async def store_cursors(context: Context | None) -> None:
    """Store how far the loops of an attempt have come, before it ends."""
    steps = None if context is None else context._steps  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    if steps is not None and steps is not True:
        await steps.aflush()


def store_cursors_sync(context: Context) -> None:
    """Store how far the loops of an attempt have come, in a child process."""
    steps = context._steps  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    if steps is not None and steps is not True:
        steps.flush()


def told(context: Context | None) -> bool:
    """Return whether an attempt told something to those who watch its task."""
    return context is not None and context._told  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def log(context: Context, level: int, logger: str, message: str) -> None:
    """Tell a log record of an attempt to those who watch its task, if its type shows such."""
    home = context._home  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    if home is not None and home.log(context._task, context._worker, level, logger, message):  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        context._told = True  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def at_home(context: Context, home: Home[Any, S] | None, server: S | None) -> Context:
    """Return a context that came from another process, at home in this one, with the server of that one."""
    if home is not None and server is not None:
        home.move(server)
    context._home = home  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    return context


def carry(context: Context, follow_ups: list[object], steps: bool) -> None:
    """Note what the attempt of a context did in another process."""
    context._follow_ups, context._steps = follow_ups, steps or None  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
