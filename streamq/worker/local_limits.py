"""What a worker process may run at once besides its slots: tasks of a type, and what tasks need of it.

Owns the bookkeeping of taken slots and resources. Pure: must not fetch, run or hand back anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from streamq.errors import UsageError
from streamq.options.placement import Resources
from streamq.registry.handler import Handler


class LocalLimits:
    """The limits of one worker process. concurrency: its slots. has: its resources. limited: the types that
    have limits of their own; an alias counts with its type."""

    def __init__(
        self, concurrency: int, handlers: Mapping[str, Handler] | None = None, has: Resources = ()
    ) -> None:
        self.concurrency: int = concurrency
        self.limited: dict[str, Handler] = {
            name: one
            for name, one in (handlers or {}).items()
            if one.options.slots is not None or one.options.resources
        }
        self._free: Counter[str] = Counter(dict(has))
        self._running: Counter[str] = Counter()

    def room(self, task_type: str) -> int:
        """Return how many more tasks of a limited type may run now."""
        handler = self.limited[task_type]
        slots, needs = handler.options.slots, handler.options.resources or ()
        room = [] if slots is None else [slots - self._running[handler.name]]
        room += [self._free[name] // number for name, number in needs]
        return max(0, min(room))

    def take(self, task_type: str) -> bool:
        """Take what one task needs. Return False, and take nothing, if that is not free."""
        if self.room(task_type) < 1:
            return False
        self._add(task_type, 1)
        return True

    def give(self, task_type: str) -> None:
        """Give back what one task had."""
        self._add(task_type, -1)

    def _add(self, task_type: str, tasks: int) -> None:
        handler = self.limited[task_type]
        self._running[handler.name] += tasks
        for name, number in handler.options.resources or ():
            self._free[name] -= tasks * number


def lacking(handler: Handler, has: Resources) -> Resources:
    """Return what a worker with these resources lacks to run a task of a type even once."""
    have: Mapping[str, int] = dict(has)
    return tuple(
        (name, number) for name, number in handler.options.resources or () if have.get(name, 0) < number
    )


def refusal(handler: Handler, lacks: Resources) -> UsageError:
    """Return the error of a worker that is to serve a type and never could."""
    wanted = ",".join(f"{name}={number}" for name, number in lacks)
    return UsageError(
        f"task type {handler.name!r} needs more than this worker has: start it with --resources {wanted}, or "
        "leave the type out of --types"
    )
