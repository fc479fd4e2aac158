"""Define a task in a worker's hands: the raw entry, and the decoded delivery.

Owns the fields of one delivery. How it ends is defined in `outcome`. Decodes nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streamq.model.task import SUSPECT, TaskId


class Overrides(NamedTuple):
    """What one call set differently from the task type's policy; None keeps the policy's value."""

    timeout: float | None = None
    max_attempts: int | None = None
    retention: float | None = None


class Entry(NamedTuple):
    """One stream entry as delivered, not yet decoded. `fields` is None if the entry was deleted."""

    letter: str
    entry: str
    fields: Sequence[bytes] | None

    @property
    def place(self) -> str:
        """Return stream letter and entry id: they identify this delivery among all of its type, for ever."""
        return self.letter + self.entry


class Delivery(NamedTuple):
    """A decoded entry in a worker's hands: one attempt to run one task.

    Times are ms since the epoch by the server's clock. `attempt` counts from 1; `lost` counts the consecutive
    deliveries before this one whose worker died. `accepted_ms` is None if the id contains it. `trace` is the
    trace context of the enqueue call. `claims` is what the task holds until it ends, as the scripts pack it:
    the rich script settles such a delivery. `run` is the name of the schedule that made the task, @, and the
    time that it is for. `fence` is a number that only grows in an ordered lane; 0 elsewhere. `version` is
    that of the payload. `handed_back` counts how often workers that could not run it gave it back. `node` is
    the flow that the task is a node of, its number there, and what it needs of other nodes. `generation`
    counts the runs of the task before this one: see `Context.continue_as_new`.
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
    run: bytes = b""
    fence: int = 0
    version: int = 1
    handed_back: int = 0
    node: bytes = b""
    generation: int = 0

    @property
    def enqueued_ms(self) -> int:
        """Return when the task was accepted."""
        return int(self.local[1:].partition("-")[0]) if self.accepted_ms is None else self.accepted_ms

    @property
    def scheduled_ms(self) -> int | None:
        """The time that the run of a schedule is for; None where no schedule made the task."""
        stamp = self.run.rpartition(b"@")[2]
        return int(stamp) if stamp.isdigit() and len(stamp) < 16 else None

    @property
    def suspect(self) -> bool:
        """Return whether the task is suspected of killing workers: it lost deliveries and has to run alone.
        Handed back tasks wait in the same stream."""
        return self.place[0] == SUSPECT and self.lost > 0

    @property
    def asks_its_lane(self) -> bool:
        """Return whether the task has not passed the gate of its lane: an older daemon moved it from the
        schedule to its stream. Its first claim is `L`: see `lua/lib/lane_row.lua`."""
        return self.claims[1:3] == b"\xa1L"

    @property
    def lane(self) -> str | None:
        """Return the name of the task's lane; None if it has none. Its claim is the first: a number, a space,
        the name (see `lua/lib/lane_row.lua`), packed by MessagePack as a short text."""
        raw = self.claims
        if raw[1:3] not in (b"\xa1L", b"\xa1l") or len(raw) < 5:
            return None
        first, size = (5, raw[4]) if raw[3] == 0xD9 else (4, raw[3] & 0x1F)
        return raw[first : first + size].partition(b" ")[2].decode("utf-8", "replace")

    @property
    def moved(self) -> bool:
        """Return whether the task has a row in the index: it is not where its id points."""
        return self.local != self.place

    @property
    def id(self) -> TaskId:
        return TaskId(self.type, self.shard, self.local)


class Success(NamedTuple):
    """The attempt that completed a task, as far as it is stored with the result.

    worker: the last six hex digits of its name. at_ms: when it ended, by the server's clock. wait_ms: from
    ready to started; run_ms: in the handler.
    """

    attempt: int
    at_ms: int
    wait_ms: int
    run_ms: int
    worker: str
