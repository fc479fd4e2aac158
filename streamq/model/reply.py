"""Define the replies to workers, daemons, operators and observers, and the values that their calls carry.

Owns the counters and the books (invariant I5). Parses nothing: `calls` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from streamq.model.delivery import Success
from streamq.model.task import State
from streamq.model.where import Where, shown


class Renewal(NamedTuple):
    """Renew's reply: the type's lease as stored in Redis, places that no longer belong to the worker, ids to
    cancel."""

    now_ms: int
    lease_ms: int
    fenced: tuple[str, ...]
    cancelled: tuple[str, ...]


class Promotion(NamedTuple):
    """Promote's reply: how many tasks moved, when the next is due (None: nothing scheduled), and the server's
    clock."""

    moved: int
    next_due_ms: int | None
    now_ms: float


class Moved(NamedTuple):
    """The reply of requeue and purge: how many were moved, how many of this kind are left (0 if ids were
    given), and `stay`: letters that were skipped because they have no payload and cannot run, or because
    another task holds their unique key. held: the local id of each of the latter, and the holder's."""

    done: int
    left: int
    stay: int = 0
    held: tuple[tuple[str, str], ...] = ()


class Reclaim(NamedTuple):
    """Reclaim's reply: the cursor to continue from (`0-0`: round complete), and counts of the deliveries by
    what was done.

    `skew`: the server's clock differs from what was expected; nothing was changed. `unread`: the policy is
    not a hash, so the default lease and max_lost were used.
    """

    cursor: str
    now_ms: int
    returned: int = 0
    dead: int = 0
    cancelled: int = 0
    unread: bool = False
    skew: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """One task type at one instant: states, counters, and the age of the oldest ready task."""

    now_ms: int
    ready: int
    running: int
    scheduled: int
    dead: int
    suspect: int
    oldest_ready_ms: int | None
    next_due_ms: int | None
    counters: dict[str, int] = field(default_factory=dict)
    parked: int = 0

    @property
    def imbalance(self) -> int:
        """Return accepted tasks minus those accounted for: 0 if the books balance (invariant I5)."""
        c = self.counters
        accepted = c.get("accepted", 0) + c.get("adopted", 0)
        ended = sum(c.get(name, 0) for name in ENDED)
        return accepted - (self.ready + self.running + self.scheduled + self.parked + self.dead + ended)


ENDED: Final = ("completed", "cancelled", "expired", "purged", "vanished")
"""The counters of tasks that no longer exist, as the books count them."""

COUNTERS: Final[Mapping[str, str]] = {
    "accepted": "Tasks that enqueue accepted.",
    "started": "Attempts that ended or whose worker died.",
    "completed": "Tasks that completed.",
    "retried": "Attempts that failed and were followed by another.",
    "dead": "Tasks that became dead letters.",
    "reclaimed": "Deliveries taken back from workers that stopped renewing their leases.",
    "cancelled": "Tasks that were cancelled.",
    "expired": "Tasks that expired before they ran.",
    "handed_back": "Deliveries that workers handed back without running them to an end.",
    "requeued": "Dead letters put back.",
    "purged": "Dead letters deleted.",
    "adopted": "Stream entries that another program wrote, and that became dead letters.",
    "repaired": "Tasks that the daemon or `streamq audit --repair` repaired.",
    "vanished": "Tasks that another program deleted, counted when they are written off.",
    "joined": "Calls that got the holder of their unique key, or were refused because of it.",
    "replaced": "Calls that changed a waiting task of their unique key or throttle instead of adding one.",
    "superseded": "Running tasks that were asked to stop for a newer one of their unique key.",
}
"""The counters of each task type, with what each counts. The script that makes a change increments it.
Metrics, lists and the guard of the scripts take the names from here."""


class Note(NamedTuple):
    """An operator's action for the log: its id, the same in every call it takes, and JSON about it. Empty for
    a program's own action."""

    action: str = ""
    about: bytes = b""


class Orders(NamedTuple):
    """What a worker is asked to do: types not to take, whether to drain, whether to publish events
    (`tell`)."""

    paused: frozenset[str]
    drain: bool
    tell: bool


@dataclass(slots=True)  # not frozen, which would take three times as long to construct
class Located:
    """Where a task is now. `fields` are its stored fields if it still has an envelope. `success`: of a
    completed task; None if a worker of an earlier release completed it."""

    state: State
    now_ms: int
    where: Where | None = None
    fields: tuple[bytes, ...] = ()
    result: bytes | None = None
    success: Success | None = None

    @property
    def detail(self) -> dict[str, str]:
        """Return `where` as text, for people and for JSON."""
        return shown(self.where)
