"""What the scripts of workers, daemons, operators and observers answer, and what they are asked with.

Owns the counters and the books (invariant I5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from streamq.model.delivery import Success
from streamq.model.task import State
from streamq.model.where import Where, shown


class Renewal(NamedTuple):
    """Renew's answer: the type's lease as Redis has it, places no longer ours, ids to cancel."""

    now_ms: int
    lease_ms: int
    fenced: tuple[str, ...]
    cancelled: tuple[str, ...]


class Promotion(NamedTuple):
    """Promote's answer: how many moved, when the next is due (None: nothing scheduled), and the clock."""

    moved: int
    next_due_ms: int | None
    now_ms: float


class Moved(NamedTuple):
    """Requeue's and purge's answer: how many were moved, how many of this kind are left (0 where ids were
    given), and how many of those looked at stay, since they have no payload and cannot run."""

    done: int
    left: int
    stay: int = 0


class Reclaim(NamedTuple):
    """Reclaim's answer: where to go on (`0-0`: round complete) and what became of the deliveries.

    `skew`: the server's clock is not where it was expected; nothing was touched. `unread`: the policy is no
    hash, and the default lease and losses were taken instead.
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
        """Accepted tasks minus those accounted for: 0 where the books are right (invariant I5)."""
        c = self.counters
        accepted = c.get("accepted", 0) + c.get("adopted", 0)
        ended = sum(c.get(name, 0) for name in ENDED)
        return accepted - (self.ready + self.running + self.scheduled + self.parked + self.dead + ended)


ENDED: Final = ("completed", "cancelled", "expired", "purged", "vanished")
"""The counters of tasks that are no longer there, as the books count them."""

COUNTERS: Final = (
    "accepted", "started", "completed", "retried", "dead", "reclaimed", "cancelled", "expired",
    "handed_back", "requeued", "purged", "adopted", "repaired", "vanished",
)  # fmt: skip
"""What is counted for each task type, by the same script that makes it true.

`started`: attempts that ended or whose worker died; `dead`: how often a task became a dead letter;
`adopted`: entries that streamq did not write and that became dead letters; `repaired`: what the daemon or
`streamq audit --repair` put right; `vanished`: tasks that something else deleted, once written off.
"""


class Note(NamedTuple):
    """An operator's action for the log: its id, the same in every call it takes, and JSON about it.
    Empty where the action is a program's own."""

    action: str = ""
    about: bytes = b""


class Orders(NamedTuple):
    """What a worker is asked to do: types to leave alone, to drain, to tell what happens."""

    paused: frozenset[str]
    drain: bool
    tell: bool


@dataclass(slots=True)  # not frozen, which would take three times as long to make
class Located:
    """Where a task is now. `fields` are its stored fields where it still has an envelope. `success`: of a
    completed task, None where a worker of an older release completed it."""

    state: State
    now_ms: int
    where: Where | None = None
    fields: tuple[bytes, ...] = ()
    result: bytes | None = None
    success: Success | None = None

    @property
    def detail(self) -> dict[str, str]:
        """`where` as text, for people and for JSON."""
        return shown(self.where)
