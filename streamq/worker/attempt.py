"""An attempt: one call of a handler for one delivery, or for several if the handler takes a batch.

Owns the runner's state of it: its times, its slot, and why it is stopped. What is settled of each delivery is
in `in_flight`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from streamq.context import Context
from streamq.item import Item
from streamq.model.effect import Stepped
from streamq.worker.batch_call import Verdict
from streamq.worker.in_flight import Held

if TYPE_CHECKING:
    from streamq.worker.blob_reading import StoredResult
    from streamq.worker.child_pool import Child

Stop = Literal["timeout", "cancel", "fenced", "shutdown"]


class Attempt:
    """An attempt at one or more deliveries of a task type.

    started, deadline: on the monotonic clock; None before the handler is called, or without a timeout.
    offset: seconds from that clock to the server's, at the start.
    taken: when it began to wait for its process, its arguments or its turn; 0 if it did not.
    stop: why the handler was asked to stop, at the time `stopped`. stack: the handler's stack at the timeout.
    child: the process that runs it. payload: with what a flow's node got of others, or from its blob; empty
    otherwise. steps: it may have made steps there. stored: the result, of an app with blobs. ended: the
    outcome is decided, even if the handler still runs. items: of a batch, in the order of `all`; verdicts: on
    each, by its number.
    """

    # Class attributes are the defaults: one attempt is created per task, and most of these never change.
    started: float | None = None
    taken: float = 0.0
    deadline: float | None = None
    offset: float | None = None
    stop: Stop | None = None
    stopped: float = 0.0
    context: Context | None = None
    slot: asyncio.Task[None] | None = None
    stack = ""
    child: Child | None = None
    payload = b""
    stored: StoredResult | None = None
    ended = False
    steps = False
    items: tuple[Item[object], ...] | None = None
    verdicts: Mapping[int, Verdict] = {}

    def __init__(self, held: Held, more: tuple[Held, ...] = ()) -> None:
        self.held: Held = held
        self.more: tuple[Held, ...] = more

    @property
    def all(self) -> tuple[Held, ...]:
        """Return every delivery of the attempt."""
        return (self.held, *self.more)

    @property
    def since(self) -> float:
        """Return when the handler was called, or since when the attempt waits for what it needs."""
        return self.started or self.taken

    def note_steps(self) -> None:
        """Note for the settlement that the handler may have stored memos."""
        self.held.effects = (*self.held.effects, Stepped())
