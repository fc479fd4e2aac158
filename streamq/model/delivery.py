"""A task in a worker's hands: the entry as it came, and the delivery that it says.

Owns the names of one hand-over. How it ends is in `outcome`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streamq.model.task import SUSPECT, TaskId


class Overrides(NamedTuple):
    """What one call set otherwise than the task type's policy; None leaves the policy's value."""

    timeout: float | None = None
    max_attempts: int | None = None
    retention: float | None = None


class Entry(NamedTuple):
    """One stream entry as it was handed over, not yet decoded. `fields` is None where it was deleted."""

    letter: str
    entry: str
    fields: Sequence[bytes] | None

    @property
    def place(self) -> str:
        """Stream letter and entry id: names this delivery among all of its type, for ever."""
        return self.letter + self.entry


class Delivery(NamedTuple):
    """A decoded entry in a worker's hands: one attempt to run one task.

    Times are ms since the epoch by the server's clock. `attempt` counts from 1; `lost` counts the
    deliveries before this one whose worker died. `accepted_ms` is None where the id tells it. `trace` is
    the trace context of the enqueue call. `claims` is what the task holds until it ends, as the scripts pack
    it: such a delivery is settled by the rich script. `fence` is a number that only grows in an ordered
    lane; 0 elsewhere.
    """

    type: str
    shard: int
    place: str
    local: str
    payload: bytes
    attempt: int = 1
    lost: int = 0
    accepted_ms: int | None = None
    expires_ms: int | None = None
    overrides: Overrides | None = None
    failures: bytes = b""
    trace: bytes = b""
    claims: bytes = b""
    fence: int = 0

    @property
    def enqueued_ms(self) -> int:
        """When the task was accepted."""
        return int(self.local[1:].partition("-")[0]) if self.accepted_ms is None else self.accepted_ms

    @property
    def suspect(self) -> bool:
        """Whether the task is suspected of killing workers: it lost deliveries and has to run alone. What was
        handed back waits in the same stream."""
        return self.place[0] == SUSPECT and self.lost > 0

    @property
    def moved(self) -> bool:
        """Whether the task has a row in the index: it is not where its id says."""
        return self.local != self.place

    @property
    def id(self) -> TaskId:
        return TaskId(self.type, self.shard, self.local)


class Success(NamedTuple):
    """The attempt that completed a task, as far as its kept result tells.

    worker: the last six digits of its name. at_ms: when it ended, by the server's clock. wait_ms: from ready
    to started; run_ms: in the handler.
    """

    attempt: int
    at_ms: int
    wait_ms: int
    run_ms: int
    worker: str
