"""One call of a handler: for one delivery, or for several where a handler takes a batch.

Owns what the runner knows of it: its clock, its slot, and why it is cut short. What the server is told of
each delivery is in `holdings`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from streamq.context import Context
from streamq.worker.in_flight import Held

if TYPE_CHECKING:
    from streamq.worker.child_pool import Child

Stop = Literal["timeout", "cancel", "fenced", "shutdown"]


class Attempt:
    """Of one or more deliveries of a task type.

    started, deadline: on the monotonic clock; None before the handler is called, or without a timeout.
    stop: why the handler was told to stop, at `stopped`. stood: where it stood when its time was over.
    child: the process that runs it. ended: its end is decided, whether or not the handler has returned.
    """

    # Attributes of the class, not of each: one is made for every task, and most never change.
    started: float | None = None
    deadline: float | None = None
    stop: Stop | None = None
    stopped: float = 0.0
    context: Context | None = None
    slot: asyncio.Task[None] | None = None
    stood = ""
    child: Child | None = None
    ended = False

    def __init__(self, held: Held, more: tuple[Held, ...] = ()) -> None:
        self.held: Held = held
        self.more: tuple[Held, ...] = more

    @property
    def all(self) -> tuple[Held, ...]:
        """Every delivery that it runs."""
        return (self.held, *self.more)
